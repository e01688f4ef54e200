// kalm.js GEMMA3 OUT - KaLM-Reranker-V1's tokenizer.json from Gemma 3's: three edits; both sums must be the published ones.
const fs = require('fs'), crypto = require('crypto');
const sum = (s) => crypto.createHash('sha256').update(s).digest('hex');
const [from, to] = process.argv.slice(2);
let text = fs.readFileSync(from, 'utf8');

function check(want) {
    if (sum(text) !== want) throw new Error(`sha256 is ${sum(text)}, expected ${want}`);
}
function once(what, by) {
    if (text.split(what).length !== 2) throw new Error(`not once in the file: ${what.slice(0, 60)}`);
    text = text.replace(what, () => by);
}
const token = (id, content, special) => `{\n      "id": ${id},\n      "content": "${content}",\n      "single_word": false,\n` +
    `      "lstrip": false,\n      "rstrip": false,\n      "normalized": false,\n      "special": ${special}\n    }`;

check('4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795');
once(',\n    ' + token(262144, '<image_soft_token>', true), '');
once(token(256001, '<unused99>', false), token(256001, '<image_soft_token>', true));
once('"<unused99>": 256001', '"<image_soft_token>": 256001');
once(token(4, '<mask>', false), token(4, '<mask>', true));
check('f5b325224482ec441ec5fbe2a5ac08c3758e0f9605f6e54368e31f736fcfb01d');
fs.writeFileSync(to, text);
