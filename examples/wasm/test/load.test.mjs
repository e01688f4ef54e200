/* Loading from servers that say wrong things, nothing, or not enough; from a folder where files are missing. Every load ends. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { createServer } from 'node:http'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import { Kalm, KalmError } from '../kalm.mjs'
import { KalmWorker } from '../worker.mjs'
import { tiny } from './common.mjs'

const bytes = tiny()
const WASM = { threads: 1, relaxed: false }, ONE = WASM
const code = (want, text) => (error) => {
    assert.equal(error.name, 'KalmError', String(error))
    assert.equal(error.code, want)
    assert.match(error.message, text)
    return true
}

/* A server of one answer at each path: (answer) => {}. */
let origin, server
const answers = {
    '/short': (answer) => answer.end(bytes.subarray(0, 5000)),
    '/long': (answer) => answer.end(Buffer.concat([bytes, bytes.subarray(0, 100)])),
    '/silent': () => {},
    '/stalls': (answer) => answer.write(bytes.subarray(0, 100000)),
    '/breaks': (answer) => answer.write(bytes.subarray(0, 100000), () => answer.destroy()),
    '/empty': (answer) => answer.end(),
    '/nothing': (answer) => answer.writeHead(204).end(),
    '/page': (answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>not found</title>'),
    '/gzip': (answer) => answer.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(bytes)),
    '/module.wasm': async (answer) => answer.end(await readFile(new URL('../dist/kalm_rerank-simd.wasm', import.meta.url)))
}
before(async () => {
    server = createServer((request, answer) => answers[request.url] ? answers[request.url](answer) : answer.writeHead(404).end())
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve) })
    origin = `http://127.0.0.1:${server.address().port}`
})
after(() => {
    server.closeAllConnections?.()
    server.close()
})

for (const ONE of [WASM, { threads: 1, backend: 'native' }]) describe(`the size of a model is in its header, ${ONE.backend ?? 'wasm'}`, () => {
    const answer = (length, body = bytes, headers = {}) => new Response(new Blob([body]).stream(),
        { headers: { ...(length === undefined ? {} : { 'content-length': String(length) }), ...headers } })
    const loads = async (source) => {
        const totals = new Set()
        const kalm = await Kalm.load(source, { ...ONE, verify: true, onProgress: ({ total }) => totals.add(total) })
        assert.deepEqual([...totals], [bytes.length])
        assert.equal(kalm.info.bytes, bytes.length)
        kalm.free()
    }
    for (const length of [undefined, bytes.length, gzipSync(bytes).length, 0, 1, bytes.length - 1, bytes.length + 1, 2 ** 40, -5, 'much'])
        test(`Content-Length: ${length}`, () => loads(answer(length)))
    test('with Content-Encoding', () => loads(answer(17, bytes, { 'content-encoding': 'gzip' })))
    test('a compressed answer', () => loads(`${origin}/gzip`))
    test('too few bytes', () => assert.rejects(Kalm.load(answer(bytes.length, bytes.subarray(0, 5000)), ONE),
        code('BAD_FILE', /says it has \d+ bytes, it has 5000/)))
    test('too many bytes', () => assert.rejects(Kalm.load(answer(bytes.length, Buffer.concat([bytes, Buffer.from('x')])), ONE),
        code('BAD_FILE', /says it has \d+ bytes, more than that came/)))
    test('by HTTP', async () => {
        await assert.rejects(Kalm.load(`${origin}/short`, ONE), code('BAD_FILE', /it has 5000/))
        await assert.rejects(Kalm.load(`${origin}/long`, ONE), code('BAD_FILE', /\/long: .*more than that came/))
        await assert.rejects(Kalm.load(`${origin}/page`, ONE), code('BAD_FILE', /not a \.kalm file/))
        await assert.rejects(Kalm.load(`${origin}/empty`, ONE), code('BAD_FILE', /not a \.kalm file/))
        await assert.rejects(Kalm.load(`${origin}/nothing`, ONE), code('BAD_FILE', /\/nothing: the answer is empty/))
        await assert.rejects(Kalm.load(`${origin}/breaks`, ONE), code('CANNOT_READ', /\/breaks broke off/))
    })
    test('a header that promises 4 GB in front of nothing takes no memory', async () => {
        const liar = bytes.slice(0, 5000)
        new DataView(liar.buffer).setBigUint64(16, 4000000000n, true)
        const before = process.memoryUsage().arrayBuffers
        await assert.rejects(Kalm.load(liar, ONE), code('BAD_FILE', /says it has 4000000000 bytes, it has 5000/))
        assert.ok(process.memoryUsage().arrayBuffers - before < 1e8)
    })
    test('streams of other things than bytes', async () => {
        await assert.rejects(Kalm.load((async function* () { yield 'text' })(), ONE), TypeError)
        await loads((async function* () { yield bytes.buffer.slice(0, 1000); yield Buffer.from(bytes.buffer, 1000) })())
        const used = answer()
        await used.arrayBuffer()
        await assert.rejects(Kalm.load(used, ONE), { code: 'BAD_ARGUMENT' })
    })
})

/* A download of a second and more: the bytes are taken as they come, so that little is left to do when the last one is there. */
describe('a model is loaded in the time of its download', () => {
    const RATE = 4e6, CHUNK = 65536
    let taken, sent, ended
    before(() => {
        answers['/paced'] = async (answer) => {
            const began = performance.now()
            answer.writeHead(200, { 'content-length': bytes.length })
            for (sent = 0; sent < bytes.length; sent += CHUNK) {
                await new Promise((resolve) => { setTimeout(resolve, began + sent / RATE * 1000 - performance.now()) })
                await new Promise((resolve) => { answer.write(bytes.subarray(sent, sent + CHUNK), resolve) })
            }
            ended = { at: performance.now(), took: performance.now() - began, taken }
            answer.end()
        }
    })
    for (const [name, load] of [['Kalm', Kalm.load], ['KalmWorker', KalmWorker.load]]) test(name, async (t) => {
        const seen = []
        taken = 0
        const kalm = await load(`${origin}/paced`, { ...WASM, onProgress: ({ loaded }) => { taken = loaded; seen.push(loaded - sent) } })
        const rest = performance.now() - ended.at
        t.diagnostic(`${bytes.length} bytes in ${ended.took.toFixed(0)} ms, loaded ${rest.toFixed(1)} ms later`)
        assert.equal(taken, bytes.length)
        assert.ok(seen.length > 10, `${seen.length} reports of progress`)
        assert.ok(ended.took > bytes.length / RATE * 900)
        assert.ok(ended.taken > bytes.length / 2, `${ended.taken} bytes were taken when the last was sent`)
        assert.ok(rest < Math.max(500, ended.took / 2), `loaded ${rest} ms after the download's end`)
        assert.equal((await kalm.rerank('chess', ['a game of chess', 'a drawing'])).length, 2)
        await kalm.free()
    })
})

const soon = async (promise, want, text) => {
    const began = performance.now()
    await assert.rejects(promise, code(want, text))
    assert.ok(performance.now() - began < 5000)
}

describe('nothing is waited for without end', () => {
    const timeout = 800
    for (const [name, load] of [['Kalm', Kalm.load], ['KalmWorker', KalmWorker.load]]) test(name, async () => {
        await soon(load(`${origin}/silent`, { ...ONE, timeout }), 'CANNOT_READ', /\/silent: no answer within 0\.8 s/)
        await soon(load(`${origin}/stalls`, { ...ONE, timeout }), 'CANNOT_READ', /\/stalls: no answer within 0\.8 s/)
        await soon(load(new ReadableStream({}), { ...ONE, timeout }), 'CANNOT_READ', /the stream of the model: no answer/)
        for (const at of ['silent', 'missing.wasm', 'page'])
            await soon(load(bytes, { ...ONE, timeout, wasm: `${origin}/${at}` }), at === 'page' ? 'BAD_FILE' : 'CANNOT_READ', new RegExp(`/${at}: `))
        await soon(load(bytes, { ...ONE, timeout, assets: `${origin}/folder` }), 'CANNOT_READ', /folder\/kalm_rerank-simd\.wasm: HTTP status 404/)
        await soon(load(new Response(null, { status: 206 }), ONE), 'BAD_FILE', /^the answer: the answer is empty$/)
        await soon(load(new Response('', { status: 404 }), ONE), 'CANNOT_READ', /^the answer: HTTP status 404$/)
        const locked = new Response('x')
        locked.body.getReader()
        await soon(load(locked, ONE), 'BAD_ARGUMENT', /^the answer: the answer was read already$/)
        const kalm = await load(bytes, { ...ONE, wasm: `${origin}/module.wasm`, timeout: Infinity })
        kalm.free()
        const stop = new AbortController()
        setTimeout(() => stop.abort(), 100)
        await assert.rejects(load(`${origin}/silent`, { ...ONE, signal: stop.signal }), { name: 'AbortError' })
        for (const wrong of [-1, NaN, 1.5, 2 ** 40]) await assert.rejects(load(bytes, { ...ONE, timeout: wrong }), { code: 'BAD_ARGUMENT' })
        await assert.rejects(load(bytes, { ...ONE, timeout: '5' }), TypeError)
    })
})

describe('a folder where a file is missing or is something else', () => {
    const FILES = ['kalm.mjs', 'node.mjs', 'native.mjs', 'worker.mjs', 'worker-thread.mjs', 'dist/kalm_rerank-simd.wasm', 'dist/kalm_rerank-simd-threads.wasm',
        'dist/kalm_rerank-simd-threads.js', 'dist/kalm_rerank-simd-threads.worker.js']
    const copy = async (t, change) => {
        const folder = await mkdtemp(join(tmpdir(), 'kalm-'))
        t.after(() => rm(folder, { recursive: true }))
        await mkdir(join(folder, 'dist'))
        for (const file of FILES) await copyFile(fileURLToPath(new URL(`../${file}`, import.meta.url)), join(folder, file))
        await change(folder)
        return { ...await import(pathToFileURL(join(folder, 'kalm.mjs'))), ...await import(pathToFileURL(join(folder, 'worker.mjs'))) }
    }
    const two = { threads: 2, relaxed: false, timeout: 3000 }
    for (const file of FILES.filter((name) => name.startsWith('dist/'))) for (const [what, change] of [['missing', (path) => rm(path)], ['garbage', (path) => writeFile(path, '<html>')]])
        test(`${file}: ${what}`, async (t) => {
            const other = await copy(t, (folder) => change(join(folder, file)))
            const options = file.includes('threads') ? two : { ...two, threads: 1 }
            for (const load of [other.Kalm.load, other.KalmWorker.load])
                await assert.rejects(load(bytes, options), (error) => {
                    assert.equal(error.name, 'KalmError', String(error))
                    assert.match(error.message, new RegExp(file.replace(/[.]/g, '\\.')))
                    return true
                })
        })
    for (const file of ['worker-thread.mjs', 'node.mjs']) test(`${file}: missing`, async (t) => {
        const other = await copy(t, (folder) => file === 'node.mjs' ? writeFile(join(folder, 'worker-thread.mjs'), 'throw new Error("no luck")')
            : rm(join(folder, file)))
        await assert.rejects(other.KalmWorker.load(bytes, two), code('CANNOT_READ', /worker-thread\.mjs: the Worker cannot be started/))
    })
    test('a Worker that dies later', async (t) => {
        const other = await copy(t, (folder) => writeFile(join(folder, 'worker-thread.mjs'), `import { parentPort } from 'node:worker_threads'
            parentPort.on('message', ({ id, method }) => {
                if (method !== 'load') throw new Error('no luck')
                parentPort.postMessage({ id, result: {} })
            })
            parentPort.postMessage({ ready: true })`))
        const kalm = await other.KalmWorker.load(bytes, two)
        for (let i = 0; i < 3; i++) await soon(Promise.all([kalm.verify(), kalm.tokenize('a')]), 'CANNOT_READ', /^the Worker broke off: no luck$/)
        kalm.free()
        await soon(kalm.verify(), 'BAD_ARGUMENT', /was freed/)
    })
    test('a script that never says that it is there', async (t) => {
        const other = await copy(t, (folder) => writeFile(join(folder, 'worker-thread.mjs'), 'setInterval(() => {}, 1000)'))
        await assert.rejects(other.KalmWorker.load(bytes, { ...two, timeout: 300 }), code('CANNOT_READ', /worker-thread\.mjs: no answer within 0\.3 s/))
    })
    test('a thread that never says that it is there', async (t) => {
        const other = await copy(t, (folder) => writeFile(join(folder, FILES.at(-1)), 'setInterval(() => {}, 1000)'))
        for (const load of [other.Kalm.load, other.KalmWorker.load])
            await assert.rejects(load(bytes, { ...two, timeout: 300 }), code('CANNOT_READ', /worker\.js: no answer within 0\.3 s/))
    })
})

test('the error class is the one that is exported', () => assert.rejects(Kalm.load('/no/such.kalm'), KalmError))
