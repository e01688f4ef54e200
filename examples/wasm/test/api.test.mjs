/* Kalm on each build, against the native command. */
import assert from 'node:assert/strict'
import { test, describe, before, after } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { Kalm, KalmError, features } from '../kalm.mjs'
import { serve } from '../serve.mjs'
import { fewBits, floatPath, hash, here, native, passages, queries, sealed, stretched, tiny, tinyPath } from './common.mjs'

const BUILDS = [
    ['plain', { simd: false, threads: 1 }],
    ['simd', { relaxed: false, threads: 1 }],
    ['plain-threads', { simd: false, threads: 2 }],
    ['simd-threads', { relaxed: false, threads: 2 }],
    ['native', { backend: 'native', threads: 1 }],
    ['native', { backend: 'native', threads: 2 }]
]
/* V8 has relaxed SIMD without a flag since 11.4, node 21. KALM_RELAXED=1: this run is for it, beside one with another node, which has
   the slow modules without SIMD. */
const relaxed = parseFloat(process.versions.v8) >= 11.4 || process.execArgv.includes('--experimental-wasm-relaxed-simd')
if (relaxed) BUILDS.push(['relaxed', { relaxed: true, threads: 1 }], ['relaxed-threads', { relaxed: true, threads: 2 }])
let few
/* KALM_BUILDS=simd: of the suites of each build that one alone (tests/wasm/binding.sh) */
const asked = BUILDS.filter(([name, { threads }]) => process.env.KALM_BUILDS ? process.env.KALM_BUILDS === name && threads === 1 :
    process.env.KALM_RELAXED !== '1' || !name.startsWith('plain'))
const code = (want, text) => (error) => {
    assert.ok(error instanceof KalmError, String(error))
    assert.equal(error.code, want)
    if (text) assert.match(error.message, text)
    return true
}
/* Float weights agree to 1e-3, since WebAssembly has no fused multiply-add. Quantised ones give the same bits everywhere. */
const FLOAT = 1e-3, QUANTISED = 0
const near = (got, want, what, most = FLOAT) => {
    assert.deepEqual(got.map((r) => r.index), want.map((r) => r.index), `${what}: order`)
    got.forEach((r, i) => {
        assert.ok(Math.abs(r.margin - Math.fround(want[i].margin)) <= most, `${what}: margin ${r.margin}, native ${want[i].margin}`)
        assert.ok(Math.abs(r.score - Math.fround(want[i].score)) <= most, `${what}: score`)
        assert.equal(r.cut, Boolean(want[i].cut))
    })
}

test('this machine is known, and the best build is the default', async () => {
    assert.deepEqual(features(), { simd: true, relaxed, threads: true })
    assert.ok(relaxed || process.env.KALM_RELAXED !== '1', 'this node is too old for relaxed SIMD')
    const kalm = await Kalm.load(tinyPath, { backend: 'wasm' })
    const threads = Math.min(cpus().length, 8), kind = relaxed ? 'relaxed' : 'simd'
    assert.deepEqual([kalm.info.threads, kalm.info.build], [threads, threads > 1 ? `${kind}-threads` : kind])
    assert.match(kalm.info.kernels, relaxed ? /^wasm(dot|vnni8?|fma)$/ : /^wasm$/)
    kalm.free()
})

test('relaxed SIMD: where it is missing, only who insists is refused', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'kalm-'))
    t.after(() => rm(folder, { recursive: true }))
    await mkdir(join(folder, 'dist'))
    for (const file of ['kalm.mjs', 'node.mjs', 'native.mjs', 'dist/kalm_rerank-simd.wasm', 'dist/kalm_rerank-simd-threads.wasm', 'dist/kalm_rerank-simd-threads.js',
        'dist/kalm_rerank-simd-threads.worker.js'])
        await copyFile(fileURLToPath(new URL(`../${file}`, import.meta.url)), join(folder, file))
    const other = await import(pathToFileURL(join(folder, 'kalm.mjs')))
    for (const threads of [1, 2]) {
        const kalm = await other.Kalm.load(tinyPath, { threads })
        assert.equal(kalm.info.build, threads > 1 ? 'simd-threads' : 'simd')
        near(await kalm.rerank(queries[0], passages()), await native(tinyPath, queries[0]), 'without', QUANTISED)
        kalm.free()
    }
    await assert.rejects(other.Kalm.load(tinyPath, { relaxed: true }), relaxed ? { code: 'CANNOT_READ', message: /relaxed.*no such file/ } : { code: 'NO_KERNELS' })
})

/* A module whose memory may have so many pages and no more. */
function limited(file, pages) {
    const out = file.slice()
    let at = 8, value
    const number = () => {
        let shift = 0, byte
        value = 0
        do {
            byte = out[at++]
            value += (byte & 127) * 2 ** shift
            shift += 7
        } while (byte & 128)
        return value
    }
    while (at < out.length) {
        const section = out[at++], end = number() + at
        if (section === 5) {           /* one memory: limits of two kinds, the least, the most */
            assert.deepEqual([out[at++], out[at++]], [1, 1])
            number()
            const from = at
            number()
            for (let i = from, rest = pages; i < at; i++, rest = Math.floor(rest / 128)) out[i] = rest % 128 + (i < at - 1 ? 128 : 0)
            return out
        }
        at = end
    }
    throw new Error('the module has no memory of its own')
}

for (const [name, build] of asked) describe(`${name}, ${build.threads} threads`, () => {
    let kalm
    before(async () => { kalm = await Kalm.load(tinyPath, { ...build, verify: true }) })
    after(() => kalm.free())

    test('info', () => {
        const info = kalm.info
        assert.equal(info.build, name)
        assert.equal(info.name, 'tiny')
        assert.equal(info.weights, 'q8')
        assert.equal(info.threads, build.threads)
        assert.deepEqual([info.vocabulary, info.layers, info.width, info.hasTokenizer, info.yesId, info.noId],
            [8192, 4, 192, true, 843, 781])
        assert.equal(info.bytes, tiny().length)
        assert.match(info.fingerprint, /^[0-9a-f]{16}$/)
    })

    for (const [path, most] of [[floatPath, name === 'native' ? 0 : FLOAT], [tinyPath, QUANTISED]])
        test(`the ranking of native, margins within ${most} (${path === tinyPath ? '8-bit' : 'float32'} weights)`, async () => {
            const own = path === tinyPath ? kalm : await Kalm.load(path, build)
            const texts = passages()
            for (const query of queries) near(await own.rerank(query, texts), await native(path, query), query, most)
            near(await own.rerank(queries[0], texts, { ratio: 1, topK: 3 }),
                await native(path, queries[0], ['--ratio', '1', '--top-k', '3']), 'ratio 1', most)
            near(await own.rerank(queries[0], texts, { ratio: 1000 }), await native(path, queries[0], ['--ratio', '1000']),
                'documents of one row', most)
            const instruction = 'Given a few keywords, find the software package they describe.'
            near(await own.rerank(queries[1], texts, { ratio: 16, instruction, topK: 5 }),
                await native(path, queries[1], ['--ratio', '16', '--instruction', instruction, '--top-k', '5']),
                'instruction', most)
            if (own !== kalm) own.free()
        })

    test('parts of a model: the documents and scores of the whole, and what they lack', async () => {
        const texts = passages()
        const docs = await kalm.encode(texts), want = await kalm.rerank(queries[0], docs)
        const encoder = await Kalm.load(here('dist/tiny-encoder.kalm'), build)
        assert.deepEqual([encoder.info.hasEncoder, encoder.info.hasDecoder, encoder.info.cutVocabulary], [true, false, null])
        assert.deepEqual(await encoder.encode(texts), docs)
        await assert.rejects(encoder.rerank(queries[0], docs), { code: 'INCOMPLETE', message: /encoder alone/ })
        encoder.free()
        for (const name of ['decoder', 'query']) {
            const decoder = await Kalm.load(here(`dist/tiny-${name}.kalm`), build)
            assert.deepEqual([decoder.info.hasEncoder, decoder.info.hasDecoder, decoder.info.fingerprint], [false, true, kalm.info.fingerprint])
            assert.deepEqual(await decoder.rerank(name === 'query' ? 'chess' : queries[0], docs), name === 'query' ? await kalm.rerank('chess', docs) : want)
            await assert.rejects(decoder.encode(texts), { code: 'INCOMPLETE', message: /decoder alone/ })
            await assert.rejects(decoder.rerank(queries[0], texts), { code: 'INCOMPLETE', message: /decoder alone/ })
            assert.equal(decoder.info.cutVocabulary !== null, name === 'query')
            decoder.free()
        }
    })

    test('documents: stored, opened, pooled', async () => {
        const texts = passages().slice(0, 6)
        const docs = await kalm.encode(texts, { ratio: 1, bits: 32 })
        const info = kalm.docInfo(docs[0])
        assert.deepEqual([info.ratio, info.bits, info.width, info.rows], [1, 32, 192, info.tokensUsed])
        const direct = await kalm.rerank(queries[0], texts, { ratio: 1 })
        assert.deepEqual(await kalm.rerank(queries[0], docs), direct, 'stored as floats, nothing is lost')
        assert.deepEqual(await kalm.encode(texts[0], { ratio: 1, bits: 32 }), docs[0], 'one text, one document; the same bytes')
        const four = kalm.repool(docs[0], 4, 16)
        assert.deepEqual([kalm.docInfo(four).ratio, kalm.docInfo(four).bits], [4, 16])
        near(await kalm.rerank(queries[0], docs, { ratio: 4 }), await kalm.rerank(queries[0], texts, { ratio: 4 }), 'pooled', 5e-2)
        const mixed = await kalm.rerank(queries[0], [texts[0], docs[1], texts[2]], { ratio: 1 })
        near(mixed, direct.filter((r) => r.index < 3), 'texts and documents together')
        await assert.rejects(kalm.rerank(queries[0], [texts[0], four], { ratio: 6 }), code('BAD_ARGUMENT', /ratio 6 .*multiple/))
        const bad = docs[1].slice()
        bad[bad.length - 1] ^= 1
        await assert.rejects(kalm.rerank(queries[0], [docs[0], bad]), code('BAD_FILE', /document 1 .*damaged/))
        await assert.rejects(kalm.rerank(queries[0], [new Uint8Array(7)]), code('BAD_FILE'))
    })

    test('rows of 4, 3 and 2 bits: bytes and margins of the C library', async () => {
        few ??= fewBits()
        const { query, texts, options, context, want } = few
        const own = await Kalm.load(tinyPath, { ...build, ...context })
        assert.equal(want.size, 3 * texts.length)
        for (const bits of [4, 3, 2]) {
            const docs = await own.encode(texts, { ...options, bits })
            docs.forEach((doc, i) => {
                const info = own.docInfo(doc)
                assert.deepEqual([info.bits, info.ratio, info.width, doc.length], [bits, 2, 192, 64 + info.rows * (192 * bits / 8 + 1)])
                assert.equal(hash(doc).toString(16).padStart(16, '0'), want.get(`${bits} ${i}`).sum, `document ${i} of ${bits} bits`)
            })
            for (const result of await own.rerank(query, docs)) assert.equal(result.margin, want.get(`${bits} ${result.index}`).margin)
            const coarse = own.repool(docs[0], 4)
            assert.deepEqual([own.docInfo(coarse).bits, own.docInfo(coarse).ratio], [bits, 4])
            const [whole] = await own.encode(texts.slice(0, 1), { ...options, bits: 32 })
            assert.deepEqual(own.repool(whole, 2, bits), docs[0], 'rows of 32 bits written with fewer are those that the encoder would have kept')
        }
        own.free()
    })

    test('rows of 4, 3 and 2 bits from strangers', async () => {
        const [text] = passages()
        for (const bits of [4, 3, 2]) {
            const doc = await kalm.encode(text, { bits }), rowBytes = 192 * bits / 8 + 1
            const changed = (change) => {
                const bytes = doc.slice()
                change(bytes, new DataView(bytes.buffer))
                return bytes
            }
            const refused = (bytes, want, message) => assert.rejects(kalm.rerank('chess', [doc, bytes]), code(want, message))
            await refused(changed((b) => { b[70] ^= 1 }), 'BAD_FILE', /document 1 .*damaged/)
            await refused(doc.slice(0, -1), 'BAD_FILE', /has \d+ bytes, its header asks/)
            await refused(sealed(changed((b) => { b[56] ^= 1 })), 'MISMATCH', /transform/)
            await refused(sealed(changed((b) => { b[8] ^= 1 })), 'MISMATCH', /model/)
            for (const other of [0, 1, 5, 6, 7, 8, 16, 32, 4294967295])
                await refused(sealed(changed((b, v) => v.setUint32(36, other, true))), 'BAD_FILE')
            await refused(sealed(changed((b, v) => v.setUint32(4, 1, true))), 'BAD_FILE', /bytes 56 to 63/)
            await refused(sealed(changed((b, v) => { v.setUint32(4, 1, true); v.setBigUint64(56, 0n, true) })), 'BAD_FILE', /version 1/)
            await refused(sealed(changed((b, v) => v.setUint32(28, 4294967295, true))), 'BAD_FILE')
            await refused(sealed(changed((b) => { b[64 + rowBytes] = 0 })), 'BAD_FILE', /row 1 .*not finite/)
            /* bytes that no encoder writes are some row: they rank, to the same margin each time */
            let state = bits
            const noise = sealed(changed((b) => {
                for (let i = 64; i < b.length; i++) {
                    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
                    b[i] = state >>> 24 || 1
                }
            }))
            const [one, two] = [await kalm.rerank('chess', [noise]), await kalm.rerank('chess', [noise, doc])]
            assert.ok(Number.isFinite(one[0].margin))
            assert.equal(two.find((r) => r.index === 0).margin, one[0].margin)
            assert.equal(two.find((r) => r.index === 1).margin, (await kalm.rerank('chess', [doc]))[0].margin)
            assert.equal(kalm.repool(noise, 8, 32).length, 64 + Math.ceil(kalm.docInfo(noise).rows / 2) * 768)
        }
    })

    test('tokens there and back', () => {
        for (const text of ['', 'hello world', 'naïve café 你好 \u{1f600}', '<end_of_turn>', 'a'.repeat(5000)])
            assert.equal(kalm.detokenize(kalm.tokenize(text)), text)
        assert.ok(kalm.tokenize('hello world') instanceof Int32Array)
        assert.notDeepEqual(kalm.tokenize('<end_of_turn>'), kalm.tokenize('<end_of_turn>', { parseControl: true }))
        assert.equal(kalm.detokenize(kalm.tokenize('\ud800')), '\ufffd')
    })

    test('odd calls', async () => {
        assert.deepEqual(await kalm.rerank('query', []), [])
        assert.deepEqual(await kalm.encode([]), [])
        assert.equal((await kalm.rerank('', ['', ' '])).length, 2)
        await assert.rejects(kalm.encode(['x'], { bits: 7 }), code('BAD_ARGUMENT', /bits is 7/))
        await assert.rejects(kalm.rerank(undefined, []), TypeError)
        await assert.rejects(kalm.rerank('q', ['a', 5]), TypeError)
        await assert.rejects(kalm.rerank('q', 'text'), TypeError)
        await assert.rejects(kalm.encode([1]), TypeError)
        const long = await kalm.rerank('chess', [`${'word '.repeat(2000)}`, 'chess'])
        assert.deepEqual(long.map((r) => [r.index, r.cut]).sort(), [[0, true], [1, false]])
    })

    test('numbers do not wrap, nothing is turned into a string', async () => {
        const stored = await kalm.encode('x', { ratio: 1 })
        const calls = {
            'encode ratio': (n) => kalm.encode('x', { ratio: n }), 'encode bits': (n) => kalm.encode('x', { bits: n }),
            'rerank ratio': (n) => kalm.rerank('q', ['x'], { ratio: n }), 'rerank nothing': (n) => kalm.rerank('q', [], { ratio: n }),
            'stored ratio': (n) => kalm.rerank('q', [stored], { ratio: n }), 'topK': (n) => kalm.rerank('q', ['x'], { topK: n }),
            'repool ratio': async (n) => kalm.repool(stored, n), 'repool bits': async (n) => kalm.repool(stored, 2, n),
            'token': async (n) => kalm.detokenize([5, n])
        }
        for (const option of ['threads', 'maxDocTokens', 'maxQueryTokens', 'cacheBytes', 'stateBits'])
            calls[option] = (n) => Kalm.load(tinyPath, { ...build, [option]: n })
        for (const [name, call] of Object.entries(calls)) {
            for (const n of [-1, -0.5, 2.5, NaN, -(2 ** 31), 2 ** 32 + 2, 2 ** 33, 2 ** 64, -Infinity, ...name === 'topK' ? [] : [Infinity]]) {
                if (name === 'topK' && n > 2 ** 31 && n < 2 ** 53) continue
                await assert.rejects(call(n), code('BAD_ARGUMENT', new RegExp(`is ${n}: it must be`)), `${name} ${n}`)
            }
            for (const wrong of ['4', true, 4n, [4], {}]) await assert.rejects(call(wrong), TypeError, `${name} ${typeof wrong}`)
        }
        const plain = await kalm.rerank('q', ['x', 'y'])
        const nothing = { instruction: null, system: null, ratio: null, topK: null }
        assert.deepEqual(await kalm.rerank('q', ['x', 'y'], nothing), plain)
        assert.deepEqual(await kalm.rerank('q', ['x', 'y'], { ratio: 0, topK: Infinity }), plain)
        assert.deepEqual(await kalm.encode('x', { ratio: null, bits: null }), await kalm.encode('x'))
        for (const wrong of [5, true, {}, ['a']]) for (const option of ['instruction', 'system'])
            await assert.rejects(kalm.rerank('q', ['x'], { [option]: wrong }), TypeError)
        for (const wrong of [undefined, null, 5, 'text']) assert.throws(() => kalm.detokenize(wrong), TypeError)
        for (const wrong of [undefined, null, 5, ['a']]) assert.throws(() => kalm.tokenize(wrong), TypeError)
        for (const wrong of [undefined, 'text', [1]]) assert.throws(() => kalm.docInfo(wrong), TypeError)
        await assert.rejects(Kalm.load(tinyPath, { ...build, kernels: 5 }), TypeError)
    })

    test('lone surrogates are one U+FFFD each', async () => {
        for (const [text, want] of [['\ud800', '\ufffd'], ['\udc00\ud800', '\ufffd\ufffd'], ['a\ud800b\udfffc', 'a\ufffdb\ufffdc'],
            ['\ud83d\ud83d\ude00', '\ufffd\u{1f600}']]) {
            assert.deepEqual(kalm.tokenize(text), kalm.tokenize(want))
            assert.deepEqual(await kalm.encode(text), await kalm.encode(want))
            assert.deepEqual(await kalm.rerank(text, [text], { instruction: text }), await kalm.rerank(want, [want], { instruction: want }))
        }
    })

    test('every option reaches the library', async () => {
        const texts = passages().slice(0, 3), mark = 'a <end_of_turn>'
        const margins = async (query, documents, options, model = kalm) =>
            (await model.rerank(query, documents, options)).sort((a, b) => a.index - b.index).map((r) => r.margin)
        const plain = await margins('q', texts)
        for (const option of [{ instruction: 'Find games.' }, { instruction: '' }, { system: 'You are a pirate.' }, { ratio: 1 }])
            assert.notDeepEqual(await margins('q', texts, option), plain, JSON.stringify(option))
        assert.notDeepEqual(await margins(mark, texts, { parseControl: true }), await margins(mark, texts))
        assert.notDeepEqual(await margins('q', [mark], { parseControl: true }), await margins('q', [mark]))
        assert.notDeepEqual(await kalm.encode(mark, { parseControl: true }), await kalm.encode(mark))
        assert.equal(kalm.docInfo(await kalm.encode('text', { bits: 8, ratio: 3 })).bits, 8)
        assert.equal(kalm.docInfo(await kalm.encode('text', { bits: 8, ratio: 3 })).ratio, 3)
        const own = await Kalm.load(tinyPath, { ...build, maxDocTokens: 8, maxQueryTokens: 4, kernels: 'scalar' })
        assert.equal(kalm.docInfo(await own.encode('word '.repeat(50))).tokensUsed, 8)
        assert.deepEqual(await margins('one two three four five', texts, {}, own), await margins('one two three four six', texts, {}, own))
        for (const [query, text, cuts] of [['one', 'one', [false, false, false]], ['one', 'word '.repeat(50), [true, true, false]],
            ['one two three four five', 'one', [true, false, true]], ['one two three four five', 'word '.repeat(50), [true, true, true]]]) {
            const [{ cut, cutDocument, cutQuery }] = await own.rerank(query, [text])
            assert.deepEqual([cut, cutDocument, cutQuery], cuts)
        }
        own.free()
        const memory = async (cacheBytes, stateBits) => {
            const cached = await Kalm.load(tinyPath, { ...build, cacheBytes, stateBits })
            const docs = await cached.encode(passages().map((text) => text.repeat(4)), { ratio: 1 })
            const first = await margins('q', docs, {}, cached)
            assert.deepEqual(await margins('q', docs, {}, cached), first)
            const { memory } = cached.info
            cached.free()
            return { memory, first }
        }
        const [none, exact, small] = [await memory(0), await memory(1 << 26), await memory(1 << 26, 4)]
        assert.ok(exact.memory > none.memory)
        assert.ok(small.memory <= exact.memory)        /* WebAssembly's memory grows in large pieces */
        assert.deepEqual(exact.first, none.first)
        assert.notDeepEqual(small.first, exact.first)
        small.first.forEach((margin, i) => assert.ok(Math.abs(margin - exact.first[i]) < 0.3, `${margin} and ${exact.first[i]}`))
        await assert.rejects(Kalm.load(tinyPath, { ...build, stateBits: 5 }), code('BAD_ARGUMENT', /state_bits is 5/))
    })

    test('progress may throw, call, and free', async () => {
        const texts = passages()
        for (const run of [(onProgress) => kalm.rerank('q', texts, { onProgress }), (onProgress) => kalm.encode(texts, { onProgress })])
            await assert.rejects(run(() => { throw new RangeError('mine') }), { name: 'RangeError', message: 'mine' })
        const want = await kalm.rerank(queries[0], texts)
        const inner = []
        const outer = await kalm.rerank(queries[0], texts, { onProgress() {
            if (inner.length < 3) inner.push(kalm.rerank(queries[0], texts), kalm.encode(texts[0]))
            assert.equal(kalm.detokenize(kalm.tokenize('a b')), 'a b')
        } })
        assert.deepEqual(outer, want)
        const results = await Promise.all(inner)
        assert.deepEqual([results[0], results[1]], [want, await kalm.encode(texts[0])])
        const own = await Kalm.load(tinyPath, build)
        await assert.rejects(own.rerank('q', texts, { onProgress: () => own.free() }), code('BAD_ARGUMENT', /freed/))
        await assert.rejects(own.rerank('q', texts), code('BAD_ARGUMENT', /freed/))
    })

    test('progress goes from 0 to 1', async () => {
        const parts = []
        await kalm.rerank(queries[0], passages(), { onProgress: ({ part, done, total }) => parts.push([part, done, total]) })
        assert.ok(parts.length > (name === 'native' ? 0 : 10))         /* natively one for each turn of the event loop at most */
        parts.reduce((last, [part, , total]) => {
            assert.ok(part >= last - 1e-9 && part <= 1, `${last} then ${part}`)
            assert.equal(total, passages().length)
            return part
        }, 0)
        assert.deepEqual(parts.at(-1), [1, 15, 15])
    })

    test('cancelled: before, within a layer, between slices', async () => {
        const texts = name === 'native' ? Array.from({ length: 60 }, passages).flat() : passages()
        await assert.rejects(kalm.rerank('q', texts, { signal: AbortSignal.abort() }), { name: 'AbortError', code: 'CANCELLED' })
        for (const at of [1, 3, 10]) {
            const stop = new AbortController()
            let calls = 0
            await assert.rejects(kalm.rerank('q', texts, {
                signal: stop.signal, onProgress() { if (++calls === at) stop.abort(new Error('enough')) }
            }), (error) => error.name === 'AbortError' && error.code === 'CANCELLED' && error.cause.message === 'enough')
            assert.equal(calls, at, 'nothing is done after it')
        }
        const stop = new AbortController()
        setImmediate(() => stop.abort())
        await assert.rejects(kalm.encode(texts.concat(texts), { signal: stop.signal }), { name: 'AbortError' })
        assert.equal((await kalm.rerank(queries[0], passages(), { topK: 1 }))[0].index, 1, 'works after that')
    })

    test('calls at the same time do not disturb each other', async () => {
        const texts = passages()
        const both = await Promise.all([kalm.rerank(queries[0], texts), kalm.rerank(queries[1], texts)])
        assert.deepEqual(both, [await kalm.rerank(queries[0], texts), await kalm.rerank(queries[1], texts)])
    })

    test('memory grows, and what was there stays', async () => {
        const own = await Kalm.load(tinyPath, { ...build, maxDocTokens: 256 })
        const before = own.info.memory
        const many = Array.from({ length: 3 }, (_, i) => `${passages()[i]} `.repeat(100000))
        const first = await own.rerank(queries[0], passages())
        const grown = await own.rerank(queries[0], many)
        assert.equal(grown.every((r) => r.cut), true)
        assert.ok(name === 'native' || own.info.memory > before, `${before} bytes, then ${own.info.memory}`)
        assert.deepEqual(await own.rerank(queries[0], passages()), first)
        own.free()
    })

    test('arrays that lack elements, and arrays that change meanwhile', async () => {
        for (const list of [[, 'a'], ['a', , 'b'], new Array(3)]) {
            await assert.rejects(kalm.encode(list), TypeError)
            await assert.rejects(kalm.rerank('q', list), TypeError)
        }
        const want = await kalm.rerank(queries[0], passages()), docs = await kalm.encode(passages())
        const mine = passages(), others = passages()
        assert.deepEqual(await kalm.rerank(queries[0], mine, { onProgress() { mine.length = 0 } }), want)
        assert.deepEqual(await kalm.encode(others, { onProgress() { others.fill(5) } }), docs)
    })

    test('a signal that throws', async () => {
        const want = await kalm.rerank(queries[0], passages())
        for (let i = 0; i < 600; i++) {                    /* each time would leave half a KB of the stack */
            let looks = 0
            const signal = { get aborted() {
                if (++looks > 2) throw new RangeError('mine')
                return false
            } }
            await assert.rejects(kalm.rerank('q', ['a'], { signal }), { name: 'RangeError', message: 'mine' })
        }
        let looks = 0                  /* and nothing is asked or done after it */
        const signal = { get aborted() {
            if (++looks > 2) throw new RangeError('mine')
            return false
        } }
        await assert.rejects(kalm.rerank('q', Array.from({ length: 40 }, passages).flat(), { signal }), { message: 'mine' })
        assert.equal(looks, 3)
        assert.deepEqual(await kalm.rerank(queries[0], passages()), want)
    })

    test('a call that the engine ends: no call after it is answered', { skip: name === 'native' || build.threads > 1 }, async (t) => {
        const real = WebAssembly.instantiate
        t.after(() => { WebAssembly.instantiate = real })
        WebAssembly.instantiate = async (module, imports) => {
            const { exports } = await real(module, imports)
            return { exports: { ...exports, kalm_wasm_rerank() { throw new WebAssembly.RuntimeError('memory access out of bounds') } } }
        }
        const own = await Kalm.load(tinyPath, build)
        assert.equal(own.tokenize('a').length, 1)
        const both = await Promise.allSettled([own.rerank('q', ['a']), own.rerank('q', ['b', 'c'])])
        for (const one of both) code('BAD_ARGUMENT', /loaded anew: memory access out of bounds/)(one.reason)
        assert.throws(() => own.tokenize('a'), code('BAD_ARGUMENT', /loaded anew/))
        assert.throws(() => own.info, code('BAD_ARGUMENT', /loaded anew/))
        await assert.rejects(own.encode('a'), code('BAD_ARGUMENT', /loaded anew/))
        own.free()
        assert.throws(() => own.tokenize('a'), code('BAD_ARGUMENT', /freed/))
    })

    test('memory that does not grow: an error each time, and what fits is answered as before', { skip: name === 'native' || build.threads > 1 }, async () => {
        const file = new Uint8Array(await readFile(here(`dist/kalm_rerank-${name}.wasm`)))
        const want = await kalm.rerank(queries[0], passages().slice(0, 2)), long = 'words '.repeat(2000000)
        let loaded = 0
        for (const pages of [20, 100, 140, 160, 180, 250]) {           /* of 64 KiB; a model that is open has 157 */
            let own
            try {
                own = await Kalm.load(tinyPath, { ...build, wasm: limited(file, pages) })
            } catch (error) {
                code('NO_MEMORY')(error)
                continue
            }
            loaded++
            for (let i = 0; i < 3; i++) {
                const all = await Promise.allSettled([own.rerank(queries[0], [long, 'a']), own.encode([long]), own.rerank(long, ['a'])])
                for (const one of all) code('NO_MEMORY')(one.reason)
                assert.throws(() => own.tokenize(long), code('NO_MEMORY'))
                try {
                    assert.deepEqual(await own.rerank(queries[0], passages().slice(0, 2)), want)
                } catch (error) {
                    code('NO_MEMORY')(error)
                    assert.ok(pages < 250, `${pages} pages`)
                }
            }
            own.free()
        }
        assert.ok(loaded >= 2)
    })

    test('freed', async () => {
        const own = await Kalm.load(tinyPath, build)
        const running = own.rerank('q', passages())
        running.catch(() => {})
        own.free()
        own.free()
        await assert.rejects(own.rerank('q', ['a']), code('BAD_ARGUMENT', /freed/))
        await assert.rejects(running, code('BAD_ARGUMENT', /freed/))
        assert.throws(() => own.info, code('BAD_ARGUMENT'))
    })
})

test('threads 1 and 2 give the same bytes', async () => {
    const one = await Kalm.load(tinyPath, { threads: 1 }), two = await Kalm.load(tinyPath, { threads: 2 })
    assert.deepEqual(await one.encode(passages()), await two.encode(passages()))
    assert.deepEqual(await one.rerank(queries[2], passages()), await two.rerank(queries[2], passages()))
    one.free()
    two.free()
})

describe('where models come from', () => {
    const bytes = tiny()
    const load = async (source, options) => {
        const kalm = await Kalm.load(source, { threads: 1, verify: true, ...options })
        assert.equal(kalm.info.bytes, bytes.length)
        kalm.free()
    }
    async function* dribble() {
        yield bytes.subarray(0, 1)
        yield bytes.subarray(1, 63)
        yield bytes.subarray(63, 65)
        yield bytes.subarray(65)
    }
    test('a path, a file URL', async () => {
        await load(tinyPath)
        await load(pathToFileURL(tinyPath))
        await load(pathToFileURL(tinyPath).href)
    })
    test('an ArrayBuffer, a view into the middle of one, a Blob', async () => {
        await load(bytes.buffer)
        const wide = new Uint8Array(bytes.length + 9)
        wide.set(bytes, 5)
        await load(wide.subarray(5, 5 + bytes.length))
        await load(new DataView(wide.buffer, 5, bytes.length))
        await load(new Blob([bytes]))
    })
    test('streams of unknown length, in odd pieces', async () => {
        await load(dribble())
        await load(Readable.toWeb(createReadStream(tinyPath)))
    })
    test('HTTP, with progress', async () => {
        const server = await serve()
        const url = `http://127.0.0.1:${server.address().port}/dist/tiny.kalm`
        try {
            const seen = []
            await load(url, { onProgress: (state) => seen.push(state) })
            assert.deepEqual(seen.at(-1), { loaded: bytes.length, total: bytes.length })
            assert.ok(seen.length > 1)
            await load(new URL(url))
            await load(await fetch(url))
            await assert.rejects(Kalm.load(`${url}.no`), code('CANNOT_READ', /HTTP status 404/))
            const stop = new AbortController()
            await assert.rejects(Kalm.load(url, { signal: stop.signal, onProgress: () => stop.abort() }), { code: 'CANCELLED' })
        } finally {
            server.closeAllConnections?.()
            server.close()
        }
        await assert.rejects(Kalm.load(url), code('CANNOT_READ', /cannot be reached/))
    })
    test('a module given as bytes and compiled', async () => {
        const wasm = await readFile(new URL('../dist/kalm_rerank-plain.wasm', import.meta.url))
        await load(bytes, { wasm, simd: false })
        await load(bytes, { wasm: await WebAssembly.compile(wasm), simd: false })
        await load(bytes, { wasm: new URL('../dist/kalm_rerank-plain.wasm', import.meta.url), simd: false })
    })
})

describe('bad files', () => {
    const bytes = tiny()
    const change = (at, value) => {
        const copy = bytes.slice()
        copy[at] = value
        return copy
    }
    const refuse = (name, source, want, text) => test(name, () => assert.rejects(Kalm.load(source), code(want, text)))
    async function* forever() {
        yield bytes
        yield bytes
    }
    async function* never() {
        yield new Uint8Array(100)
        assert.fail('the first bytes said that it is no model')
    }
    refuse('missing', '/no/such/file.kalm', 'CANNOT_READ', /no such file/)
    refuse('empty', new Uint8Array(0), 'BAD_FILE')
    refuse('three bytes', new Uint8Array(3), 'BAD_FILE', /not a \.kalm file/)
    refuse('text', new TextEncoder().encode('This is not a model. '.repeat(99)), 'BAD_FILE', /not a \.kalm file/)
    refuse('something else, large: not read to its end', never(), 'BAD_FILE', /not a \.kalm file/)
    refuse('a later version', change(8, 9), 'BAD_VERSION', /version 9/)
    refuse('cut short', bytes.subarray(0, 5000), 'BAD_FILE', /says it has \d+ bytes, it has 5000/)
    refuse('a stream cut short', (async function* () { yield bytes.subarray(0, 5000) })(), 'BAD_FILE', /it has 5000/)
    refuse('one byte too many', Uint8Array.of(...bytes.subarray(0, 64), ...new Uint8Array(200)), 'BAD_FILE', /it has 264/)
    refuse('a stream of more', forever(), 'BAD_FILE', /more than that came/)
    refuse('a damaged header', change(70, 1), 'BAD_FILE', /checksum/)
    test('damaged weights: found when asked to look', async () => {
        const damaged = change(bytes.length - 1000, bytes[bytes.length - 1000] ^ 1)
        await assert.rejects(Kalm.load(damaged, { verify: true }), code('BAD_FILE'))
        const kalm = await Kalm.load(damaged)
        assert.throws(() => kalm.verify(), code('BAD_FILE'))
        kalm.free()
    })
    test('one that says it has more than 4 GiB', async () => {
        const copy = bytes.slice()
        new DataView(copy.buffer).setBigUint64(16, 5000000000n, true)
        const load = (backend) => Kalm.load((async function* () { yield copy })(), { backend })
        await assert.rejects(load('wasm'), code('NO_MEMORY', /5000000000 bytes; WebAssembly/))
        await assert.rejects(load('native'), code('BAD_FILE', /says it has 5000000000 bytes/))
    })
    test('an unknown kernel set', () => assert.rejects(Kalm.load(bytes, { kernels: 'abacus' }), code('NO_KERNELS', /abacus/)))
    test('an option out of range', () => assert.rejects(Kalm.load(bytes, { maxDocTokens: 99999 }), code('BAD_ARGUMENT')))
    test('no source at all', () => assert.rejects(Kalm.load(undefined), TypeError))
})

/* Weights beyond 2 GiB of the file and of memory: an address taken for a signed number would go wrong here. */
for (const simd of [false, true])
    test(`a model of 2.4 GB, ${simd ? 'simd' : 'plain'}`, async () => {
        const file = stretched(tiny(), 2400000000 - 2400000000 % 4096)
        const kalm = await Kalm.load(file.chunks(), { simd, threads: 1 })
        assert.equal(kalm.info.bytes, file.size)
        assert.ok(kalm.info.memory > 2400000000)
        near(await kalm.rerank(queries[0], passages()), await native(tinyPath, queries[0]), 'weights above 2 GiB', QUANTISED)
        kalm.free()
    })
