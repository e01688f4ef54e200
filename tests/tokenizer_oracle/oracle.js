// oracle.js [--texts N] [--seed S] [--bench [FILE...]] - see README.md. Run from the root of the repository.
const fs = require('fs'), path = require('path'), { spawnSync } = require('child_process');

const args = process.argv.slice(2);
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const dir = path.resolve(option('--dir', 'build/tokenizer'));
const ours = path.resolve(option('--command', 'build/kalm-tokenize'));
const file = option('--tokenizer', path.join(dir, 'kalm/tokenizer.json'));
const { Tokenizer } = require(path.join(dir, 'node_modules/tokenizers'));

// ---- random texts: mulberry32 ----
let state = Number(option('--seed', 1)) >>> 0;
function random(n) {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
}
const pick = (list) => list[random(list.length)];
const times = (n, f) => Array.from({ length: n }, f).join('');

const json = JSON.parse(fs.readFileSync(file, 'utf8'));
const pieces = Object.keys(json.model.vocab), added = json.added_tokens.map((t) => t.content);
const blocks = [[0x20, 0x7e], [0xa0, 0x24f], [0x370, 0x5ff], [0x600, 0x6ff], [0x900, 0xdff], [0xe00, 0xfff], [0x1100, 0x1fff],
    [0x2000, 0x2bff], [0x3000, 0x30ff], [0x4e00, 0x9fff], [0xa000, 0xabff], [0xac00, 0xd7a3], [0xe000, 0xffff],
    [0x10000, 0x1ffff], [0x20000, 0x323af], [0xe0000, 0x10ffff], [0, 0x1f]];
function character() {
    const [low, high] = pick(blocks);
    return String.fromCodePoint(low + random(high - low + 1));
}
const kinds = [
    () => times(1 + random(20), () => pick(pieces)),
    () => times(1 + random(20), () => pick(pieces).replaceAll('▁', ' ')),
    () => times(1 + random(60), character),
    () => {                                          // added tokens cut and glued
        const s = times(10, () => (random(2) ? pick(added) : pick(pieces)));
        return s.slice(0, random(s.length)) + s.slice(random(s.length));
    },
    () => times(1 + random(8), () => pick([' ', '\n', '\t', '▁', '  \n']).repeat(1 + random(70)) +
        pick(['', 'a', '>', '</', 'the', '<b>', '> </', '▁'])),
    () => times(1 + random(3), () => pick([...pick(pieces)])).repeat(1 + random(80)),
    () => times(1 + random(300), () => pick(['a', 'b', 'c', ' '].slice(0, 1 + random(4)))),
    () => times(1 + random(12), () => pick(['▁YYYY', '▁yyyy', '▁diffformul', '▁::::::::', pick(pieces)])),
    () => times(1 + random(200), () => String.fromCharCode(97 + random(26))),
    () => times(1 + random(12), () => `<${pick(['', '/', 'unused', 'start_of_', '0x'])}${pick(['b', '41>', 'turn', 'image', 9 + random(300)])}${pick(['>', '', ' '])}`),
];
function text() {
    const s = pick(kinds)();
    return s.toWellFormed ? s.toWellFormed() : Buffer.from(s).toString();
}
function bytes() {                                   // mostly not UTF-8
    const b = Buffer.from(text().slice(0, 80));
    for (let k = random(6); k >= 0 && b.length; k--) b[random(b.length)] = random(3) ? 0x80 + random(128) : random(256);
    return b.subarray(0, random(b.length + 1));
}

function kalm(lines) {
    const run = spawnSync(ours, [file, '--jsonl', '--parse-control'], { input: lines.map((l) => JSON.stringify(l)).join('\n') + '\n',
        maxBuffer: 1 << 30 });
    if (run.status !== 0) throw new Error(`${ours}: ${run.stderr}`);
    return run.stdout.toString().trimEnd().split('\n').map((l) => JSON.parse(l));
}

let passed = 0, failed = 0;
function compare(what, got, want) {
    if (JSON.stringify(got) === JSON.stringify(want)) passed++;
    else if (failed++ < 10) console.error(`FAILED: ${JSON.stringify(what).slice(0, 400)}\n  ours   ${JSON.stringify(got).slice(0, 400)}\n  oracle ${JSON.stringify(want).slice(0, 400)}`);
}
const system = 'Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".';
const prompt = (query) => `<bos><start_of_turn>user\n${system}\n\n<Instruct>: Given a query, retrieve documents that answer the query.\n` +
    `<Query>: ${query}<end_of_turn>\n<start_of_turn>model\n\n\n\n`;

async function differential(oracle, n) {
    const encode = async (s) => (await oracle.encode(s, null, { addSpecialTokens: false })).getIds();
    for (let done = 0; done < n; done += 5000) {
        const size = Math.min(5000, n - done);
        const texts = Array.from({ length: size }, text), raw = Array.from({ length: size >> 3 }, bytes);
        const wanted = [];
        for (const s of texts) wanted.push(await encode(s));
        kalm(texts.map((s) => ({ text: s }))).forEach((r, i) => compare(texts[i], r.ids, wanted[i]));
        const broken = [];
        for (const b of raw) broken.push(await encode(new TextDecoder('utf-8', { ignoreBOM: true }).decode(b)));
        kalm(raw.map((b) => ({ hex: b.toString('hex') }))).forEach((r, i) => compare({ hex: raw[i].toString('hex') }, r.ids, broken[i]));
        // decoding: ids of texts cut at the front and at the end, ids at random, ids that are none
        const lists = wanted.slice(0, size >> 2).map((ids) => {
            const from = random(4) ? 0 : random(ids.length + 1);
            return random(3) ? ids.slice(from, from + random(ids.length + 2))
                : Array.from({ length: random(30) }, () => random(pick([300, 600, 262144])));
        });
        const decoded = [];
        for (const ids of lists) decoded.push(await oracle.decode(ids, false));
        kalm(lists.map((ids) => ({ ids }))).forEach((r, i) => compare({ ids: lists[i] }, r.text, decoded[i]));
        // the prompt of what a cut has left
        const prompts = decoded.map(prompt), inside = [];
        for (const s of prompts) inside.push(await encode(s));
        kalm(prompts.map((s) => ({ text: s }))).forEach((r, i) => compare(prompts[i], r.ids, inside[i]));
    }
}

async function bench(oracle, files) {
    if (!files.length) {                             // texts of our own, drawn as a language draws words: log-uniform
        const draw = (list) => list[Math.floor(Math.exp(random(1e6) / 1e6 * Math.log(list.length)))  - 1] || list[0];
        const words = pieces.slice(494, 236000), ascii = words.filter((p) => /^▁?[ -~]+$/.test(p));
        const no_space = words.filter((p) => /^[\u0e00-\u9fff]+$/.test(p));
        for (const [name, list] of [['mixed', words], ['ascii', ascii], ['without-spaces', no_space]]) {
            let s = '', out = [];
            while (out.length < 1.2e6) out.push(draw(list).replaceAll('▁', ' '), random(40) ? '' : '.\n');
            s = Buffer.from(out.join('')).subarray(0, 5000000).toString();
            fs.writeFileSync(path.join(dir, `bench-${name}.txt`), s);
            files.push(path.join(dir, `bench-${name}.txt`));
        }
    }
    for (const f of files) {
        const s = fs.readFileSync(f, 'utf8');
        let best = Infinity, count = 0;
        for (let k = 0; k < 3; k++) {
            const begun = process.cpuUsage();
            count = (await oracle.encode(s, null, { addSpecialTokens: false })).getLength();
            const used = process.cpuUsage(begun);
            best = Math.min(best, (used.user + used.system) / 1e6);
        }
        const run = spawnSync(ours, [file, '--whole', '--count', '--time', '--parse-control'], { input: fs.readFileSync(f), maxBuffer: 1 << 30 });
        if (run.status !== 0) throw new Error(`${ours}: ${run.stderr}`);
        const rate = Number(/([0-9.]+) MB\/s/.exec(run.stderr.toString())[1]), theirs = Buffer.byteLength(s) / 1e6 / best;
        compare(f, Number(run.stdout.toString()), count);
        console.log(`${path.basename(f).padEnd(28)} ${(Buffer.byteLength(s) / 1e6).toFixed(1)} MB  tokenizers ${theirs.toFixed(2)} MB/s  kalm ${rate.toFixed(1)} MB/s  ${(rate / theirs).toFixed(1)} times`);
    }
}

(async () => {
    process.env.TOKENIZERS_PARALLELISM = 'false';
    const oracle = Tokenizer.fromFile(file);
    if (args.includes('--bench')) await bench(oracle, args.slice(args.indexOf('--bench') + 1).filter((a) => !a.startsWith('--')));
    else await differential(oracle, Number(option('--texts', 20000)));
    console.log(`${passed} passed, ${failed} failed`);
    process.exitCode = failed ? 1 : 0;
})();
