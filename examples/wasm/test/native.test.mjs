/* The native addon: what api.test.mjs does not ask, because only native code has it: the event loop stays free, cancelling is quick, and
   nothing crashes when objects, Workers or the whole program end during work. Child processes do what could crash. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { execFile, execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { Kalm } from '../kalm.node.mjs'
import { KalmWorker } from '../worker.node.mjs'
import { here, native, passages, queries, tiny, tinyPath } from './common.mjs'

const NATIVE = { backend: 'native', threads: 1 }
const texts = (count, words = 60) => Array.from({ length: count }, (_, i) => `${i} ${passages()[i % 15]} `.repeat(Math.ceil(words / 15)))
const freed = { name: 'KalmError', code: 'BAD_ARGUMENT', message: /freed/ }
const entry = JSON.stringify(pathToFileURL(here('kalm.node.mjs')).href)

/* What `code` prints as an ES module with Kalm, and how it ended: { stdout, stderr, code, signal }. */
const child = async (code, ...flags) => {
    const source = `import { Kalm, KalmError } from ${entry}\nconst path = ${JSON.stringify(tinyPath)}\n${code}`
    const got = await promisify(execFile)(process.execPath, ['--no-warnings', ...flags, '--input-type=module', '-e', source], { timeout: 120000 })
        .catch((error) => error)
    return { stdout: got.stdout, stderr: got.stderr, code: got.code ?? 0, signal: got.signal ?? null }
}
const ends = async (want, code, ...flags) => {
    const got = await child(code, ...flags)
    assert.deepEqual({ ...got, stderr: '' }, { stdout: want, stderr: '', code: 0, signal: null }, got.stderr)
}

test('it is the default, and the margins are those of the command, to the bit', async () => {
    const kalm = await Kalm.load(tinyPath)
    assert.equal(kalm.info.build, 'native')
    assert.ok(kalm instanceof Kalm)
    assert.ok(kalm.info.threads >= 1)
    for (const query of queries) {
        const want = await native(tinyPath, query), got = await kalm.rerank(query, passages())
        assert.deepEqual(got.map((r) => [r.index, r.margin]), want.map((r) => [r.index, Math.fround(r.margin)]))
    }
    kalm.free()
    for (const options of [{ simd: true }, { relaxed: false }, { backend: 'wasm' }]) {
        const other = await Kalm.load(tinyPath, { threads: 1, ...options })
        assert.notEqual(other.info.build, 'native')
        other.free()
    }
    for (const backend of ['gpu', 5, {}]) await assert.rejects(Kalm.load(tinyPath, { backend }), { code: 'BAD_ARGUMENT' })
})

test('more documents than a slice: the same as WebAssembly, and errors name the right one', async () => {
    const one = await Kalm.load(tinyPath, NATIVE), other = await Kalm.load(tinyPath, { backend: 'wasm', threads: 1 })
    const many = texts(150, 15)
    const docs = await one.encode(many, { bits: 8 })
    assert.deepEqual(docs, await other.encode(many, { bits: 8 }))
    const mixed = docs.map((doc, i) => i % 3 ? doc : many[i])
    assert.deepEqual(await one.rerank('editor', mixed, { topK: 70 }), await other.rerank('editor', mixed, { topK: 70 }))
    const bad = docs.slice()
    bad[140] = docs[140].slice(0, 50)
    for (const bits of [4, 3, 2]) {
        const small = await one.encode(many.slice(0, 20), { bits })
        assert.deepEqual(small, await other.encode(many.slice(0, 20), { bits }))
        assert.deepEqual(await one.rerank('editor', small), await other.rerank('editor', small))
    }
    await assert.rejects(one.rerank('q', bad), { code: 'BAD_FILE', message: /document 140 cannot be used/ })
    const equal = await one.rerank('q', Array(70).fill('the same'))                /* equals keep their order, as in kalm_sort */
    assert.deepEqual(equal.map((r) => r.index), [...equal.keys()])
    const parts = []
    await one.encode(many.slice(0, 60), { onProgress: ({ part }) => parts.push(part) })
    assert.ok(parts.some((part) => part > 0.3 && part < 0.9), `${parts}`)          /* one slice, and told of in the middle of it */
    one.free()
    other.free()
})

/* How long this thread has waited for a processor so far, in milliseconds; 0 where the system does not say. */
const waited = () => {
    try {
        return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[1]) / 1e6
    } catch {
        return 0
    }
}
/* The longest time between two turns of the event loop until `work` has ended, all of it and less the time that other programs had the
   processor, and how long the work took; in milliseconds. */
const pausesOf = async (work) => {
    let last = performance.now(), before = waited(), longest = 0, own = 0, running = true
    const look = () => {
        const pause = performance.now() - last
        longest = Math.max(longest, pause)
        own = Math.max(own, pause - (waited() - before))
        before = waited()
        last = performance.now()
        if (running) setTimeout(look, 1)
    }
    setTimeout(look, 1)
    const began = performance.now()
    await work()
    running = false
    return { longest, own, took: performance.now() - began }
}

/* On a busy machine an idle program waits too, so what counts is how much longer the pauses are than its own; of a few rounds the
   best, since a neighbour may come at any time. */
describe('the event loop waits less than 20 ms longer than that of an idle program', () => {
    let kalm
    before(async () => { kalm = await Kalm.load(tinyPath, { backend: 'native' }) })
    after(() => kalm.free())
    const holds = async (what, work) => {
        const rounds = []
        for (let i = 0; i < 6 && !rounds.some((extra) => extra < 20); i++) {
            const busy = await pausesOf(work)
            const idle = await pausesOf(() => new Promise((resolve) => { setTimeout(resolve, Math.min(busy.took, 2000)) }))
            rounds.push(busy.own - idle.own)
            console.log(`event loop: longest pause ${busy.longest.toFixed(1)} ms in ${busy.took.toFixed(0)} ms of ${what}, ${idle.longest.toFixed(1)} idle; `
                + `without waiting for a processor ${busy.own.toFixed(1)} and ${idle.own.toFixed(1)}`)
        }
        assert.ok(rounds.some((extra) => extra < 20), `${what}: ${rounds.map((ms) => ms.toFixed(1)).join(', ')} ms more`)
    }
    test('ranking 100 texts', async () => holds('ranking 100 texts', () => kalm.rerank(queries[0], texts(100, 250))))
    test('documents of 60 MB, encoded and ranked', async () => {
        let docs
        await holds('encoding 200 large documents', async () => { docs = await kalm.encode(texts(200, 250), { ratio: 1, bits: 32 }) })
        assert.ok(docs.reduce((sum, doc) => sum + doc.length, 0) > 5e7)
        await holds('ranking 200 large documents', () => kalm.rerank(queries[0], docs))
        await holds('loading a model from memory', async () => { (await Kalm.load(tiny(), NATIVE)).free() })
    })
})

test('cancelled within 100 ms, twenty of twenty, while a large batch is at work', async () => {
    const kalm = await Kalm.load(tinyPath, NATIVE)
    const list = texts(640, 500)
    const times = []
    for (let i = 0; i < 20; i++) {
        const stop = new AbortController()
        const running = i % 2 ? kalm.encode(list, { signal: stop.signal }) : kalm.rerank('q', list, { signal: stop.signal })
        await new Promise((resolve) => { setTimeout(resolve, 5 + 7 * i) })
        const began = performance.now()
        stop.abort()
        await assert.rejects(running, { name: 'AbortError', code: 'CANCELLED' })
        /* and the thread is free for the next call */
        await kalm.rerank('q', ['a'])
        times.push(performance.now() - began)
    }
    console.log(`cancelled, and the next call done, after ${times.reduce((a, b) => Math.max(a, b)).toFixed(1)} ms at most`)
    assert.ok(times.every((ms) => ms < 1000), times.join(' '))
    kalm.free()
})

test('timers and reads of files go on: the work takes none of the threads of the pool', async () => {
    await ends('read\n', `
        import { readFile } from 'node:fs/promises'
        const models = await Promise.all(Array.from({ length: 6 }, () => Kalm.load(path, { backend: 'native', threads: 1 })))
        const long = Array.from({ length: 400 }, (_, i) => ('word ' + i + ' ').repeat(300))
        let done = 0
        for (const kalm of models) kalm.rerank('q', long).then(() => { done++ }, () => {})
        await readFile(path)
        console.log(done ? 'too late' : 'read')
        process.exit()
    `)
})

describe('freed', () => {
    test('during work, twice, and used after it', async () => {
        const kalm = await Kalm.load(tinyPath, NATIVE)
        const calls = [kalm.rerank('q', texts(200, 300)), kalm.encode(texts(200, 300)), kalm.rerank('q', ['a'])]
        const all = Promise.allSettled(calls)
        kalm.free()
        kalm.free()
        for (const { status, reason } of await all) {
            assert.equal(status, 'rejected')
            assert.match(reason.message, /freed/)
        }
        for (const call of [() => kalm.tokenize('a'), () => kalm.info, () => kalm.docInfo(new Uint8Array(9)), () => kalm.verify(),
            () => kalm.detokenize([1]), () => kalm.repool(new Uint8Array(9), 2)]) assert.throws(call, freed)
        await assert.rejects(kalm.encode('a'), freed)
    })
    test('in the middle of loading', async () => {
        for (let i = 0; i < 10; i++) {
            const stop = new AbortController()
            const loading = Kalm.load(i % 2 ? tinyPath : tiny(), { ...NATIVE, verify: true, signal: stop.signal })
            setTimeout(() => stop.abort(), i / 2)
            await loading.then((kalm) => kalm.free(), (error) => assert.equal(error.name, 'AbortError'))
        }
    })
})

test('bytes that change or go away during work do not matter', async () => {
    const kalm = await Kalm.load(tinyPath, NATIVE)
    const docs = await kalm.encode(passages())
    const want = await kalm.rerank(queries[0], docs)
    const mine = docs.map((doc) => doc.slice())
    const running = kalm.rerank(queries[0], mine)
    await new Promise(setImmediate)
    for (const doc of mine) {
        doc.fill(255)
        structuredClone(doc.buffer, { transfer: [doc.buffer] })
    }
    assert.deepEqual(await running, want)
    await assert.rejects(kalm.rerank('q', mine), { code: 'BAD_FILE' })
    const shared = new Uint8Array(new SharedArrayBuffer(docs[0].length))
    shared.set(docs[0])
    const odd = new Uint8Array(docs[0].length + 1).subarray(1)
    odd.set(docs[0])
    assert.equal((await kalm.rerank('q', [shared]))[0].margin, (await kalm.rerank('q', [odd]))[0].margin)
    kalm.free()
})

describe('paths', () => {
    test('names that are odd, folders, pipes, a NUL', async (t) => {
        const folder = mkdtempSync(join(tmpdir(), 'kalm-paths-'))
        t.after(() => rmSync(folder, { recursive: true }))
        for (const name of ['with space.kalm', 'naïve 你好 \u{1f600}.kalm', 'per%20cent#?.kalm']) {
            copyFileSync(tinyPath, join(folder, name))
            for (const source of [join(folder, name), pathToFileURL(join(folder, name)), pathToFileURL(join(folder, name)).href])
                (await Kalm.load(source, NATIVE)).free()
        }
        await assert.rejects(Kalm.load(folder, NATIVE), { code: 'CANNOT_READ' })
        await assert.rejects(Kalm.load(`${tinyPath}\0.txt`, NATIVE), { code: 'CANNOT_READ' })
        await assert.rejects(Kalm.load(join(folder, 'missing.kalm'), NATIVE), { code: 'CANNOT_READ', message: /missing\.kalm": no such file/ })
        if (process.platform === 'win32') return
        const pipe = join(folder, 'pipe')
        execFileSync('mkfifo', [pipe])
        const writer = execFile('cp', [tinyPath, pipe])
        const kalm = await Kalm.load(pipe, NATIVE)
        assert.equal(kalm.info.bytes, tiny().length)
        kalm.free()
        writer.kill()
    })
    test('mapped, or read', async (t) => {
        const folder = mkdtempSync(join(tmpdir(), 'kalm-mmap-'))
        t.after(() => rmSync(folder, { recursive: true }))
        const copy = join(folder, 'copy.kalm')
        copyFileSync(tinyPath, copy)
        const mapped = await Kalm.load(tinyPath, NATIVE), read = await Kalm.load(copy, { ...NATIVE, mmap: false })
        assert.ok(mapped.info.memory < read.info.memory - 5e6)
        writeFileSync(copy, 'something else')          /* what was read may change */
        assert.deepEqual(await read.rerank(queries[1], passages()), await mapped.rerank(queries[1], passages()))
        mapped.free()
        read.free()
    })
})

describe('the addon is chosen at load', () => {
    /* The package's modules, and what `change` makes of prebuilds/. */
    const copy = async (t, change) => {
        const folder = mkdtempSync(join(tmpdir(), 'kalm-native-'))
        t.after(() => rmSync(folder, { recursive: true }))
        mkdirSync(join(folder, 'dist'))
        for (const file of ['kalm.mjs', 'kalm.node.mjs', 'native.mjs', 'node.mjs', 'dist/kalm_rerank-simd.wasm', 'dist/kalm_rerank-plain.wasm'])
            copyFileSync(here(file), join(folder, file))
        cpSync(here('prebuilds'), join(folder, 'prebuilds'), { recursive: true })
        const { platform, arch } = process
        const file = ['glibc.', 'musl.', ''].map((library) => join(folder, `prebuilds/${platform}-${arch}/kalm-rerank.${library}node`)).find(existsSync)
        change(file, folder)
        return import(pathToFileURL(join(folder, 'kalm.node.mjs')))
    }
    const wrong = {
        'none': (file) => rmSync(file),
        'an empty file': (file) => writeFileSync(file, ''),
        'garbage': (file) => writeFileSync(file, Buffer.alloc(5000, 7)),
        'a library that is no addon': (file) => execFileSync('cc', ['-shared', '-x', 'c', '/dev/null', '-o', file])
    }
    for (const [name, change] of Object.entries(wrong)) test(`${name}: WebAssembly does it, unless one insists`, async (t) => {
        const { Kalm } = await copy(t, change)
        const kalm = await Kalm.load(tinyPath, { threads: 1 })
        assert.match(kalm.info.build, /simd|relaxed/)
        assert.equal((await kalm.rerank('capital of China', ['Gravity pulls.', 'The capital of China is Beijing.']))[0].index, 1)
        kalm.free()
        await assert.rejects(Kalm.load(tinyPath, NATIVE), { code: 'NO_KERNELS', message: /no native addon for (linux|darwin|freebsd|win32)-/ })
    })
    test('a copy of it works, in a folder with a space', async (t) => {
        const { Kalm } = await copy(t, () => {})
        assert.equal((await Kalm.load(tinyPath, NATIVE)).info.build, 'native')
    })
    test('it asks for no C library newer than that of node', { skip: process.platform !== 'linux' }, () => {
        for (const arch of ['x64', 'arm64']) {
            const file = here(`prebuilds/linux-${arch}/kalm-rerank.glibc.node`)
            if (!existsSync(file)) continue
            const text = execFileSync('strings', ['-a', file], { encoding: 'utf8' })
            const newest = [...text.matchAll(/^GLIBC_2\.(\d+)/gm)].reduce((most, [, minor]) => Math.max(most, Number(minor)), 0)
            assert.ok(newest > 0 && newest <= 28, `${arch}: GLIBC_2.${newest}`)
        }
    })
})

/* .ci/node fetches the node for the other machine, and says where it is. */
test('64-bit ARM, under an emulator: the same margins and documents', { skip: !process.env.NODE_ARM64 }, async () => {
    const kalm = await Kalm.load(tinyPath, NATIVE)
    const want = [(await kalm.rerank(queries[0], passages())).map((r) => r.margin), [...(await kalm.encode(passages()[0]))]]
    kalm.free()
    const source = `import { Kalm } from ${entry}
        const kalm = await Kalm.load(${JSON.stringify(tinyPath)}, { backend: 'native', threads: 2 })
        const ranked = await kalm.rerank(${JSON.stringify(queries[0])}, ${JSON.stringify(passages())})
        const docs = [...(await kalm.encode(${JSON.stringify(passages()[0])}))]
        console.log(JSON.stringify([process.arch, ranked.map((r) => r.margin), docs]))`
    const { stdout } = await promisify(execFile)('qemu-aarch64-static', ['-L', '/usr/aarch64-linux-gnu', process.env.NODE_ARM64,
        '--no-warnings', '--input-type=module', '-e', source])
    assert.deepEqual(JSON.parse(stdout), ['arm64', ...want])
})

describe('Workers', () => {
    const code = `
        const { parentPort, workerData } = require('node:worker_threads')
        import(${entry}).then(async ({ Kalm }) => {
            const kalm = await Kalm.load(workerData.path, { backend: 'native', threads: workerData.threads })
            parentPort.postMessage('ready')
            const ranked = await kalm.rerank(workerData.query, workerData.list)
            parentPort.postMessage(ranked.map((r) => r.margin))
        })`
    const start = (data) => new Worker(code, { eval: true, workerData: { path: tinyPath, threads: 1, ...data } })
    const message = (worker) => new Promise((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
    })
    test('several at once get the same margins', async () => {
        const kalm = await Kalm.load(tinyPath, NATIVE)
        const want = (await kalm.rerank(queries[0], passages())).map((r) => r.margin)
        kalm.free()
        const workers = Array.from({ length: 4 }, (_, i) => start({ query: queries[0], list: passages(), threads: 1 + i % 2 }))
        await Promise.all(workers.map(async (worker) => {
            await message(worker)
            assert.deepEqual(await message(worker), want)
        }))
        await Promise.all(workers.map((worker) => worker.terminate()))
    })
    test('terminated during work, ten times', async () => {
        for (let i = 0; i < 10; i++) {
            const worker = start({ query: 'q', list: texts(300, 400), threads: 1 + i % 2 })
            await message(worker)
            await new Promise((resolve) => { setTimeout(resolve, 3 * i) })
            const began = performance.now()
            await worker.terminate()
            assert.ok(performance.now() - began < 2000, 'the thread is cancelled')
        }
        const kalm = await Kalm.load(tinyPath, NATIVE)
        assert.equal((await kalm.rerank(queries[0], passages()))[0].index, 1)
        kalm.free()
    })
    test('KalmWorker has it too', async () => {
        const far = await KalmWorker.load(tinyPath, NATIVE)
        assert.equal(far.info.build, 'native')
        const stop = new AbortController()
        const running = far.rerank('q', texts(300, 400), { signal: stop.signal })
        setTimeout(() => stop.abort(), 20)
        await assert.rejects(running, { name: 'AbortError' })
        assert.equal((await far.rerank(queries[0], passages()))[0].index, 1)
        far.free()
    })
})

describe('the end of the program', () => {
    const busy = `const kalm = await Kalm.load(path, { backend: 'native', threads: 2 })
        const list = Array.from({ length: 500 }, (_, i) => ('word ' + i + ' ').repeat(400))\n`
    test('waits for work, not for models', async () => {
        await ends('2\n', `const kalm = await Kalm.load(path, { backend: 'native', threads: 2 })
            kalm.rerank('q', ['a', 'b']).then((r) => console.log(r.length))`)
    })
    test('process.exit, an uncaught error and a signal during work', async () => {
        for (let i = 0; i < 8; i++)
            assert.equal((await child(`${busy} kalm.rerank('q', list); setTimeout(() => process.exit(7), ${4 * i})`)).code, 7)
        assert.equal((await child(`${busy} kalm.rerank('q', list, { onProgress() { process.exit(5) } })`)).code, 5)
        const thrown = await child(`${busy} kalm.rerank('q', list).catch(() => {}); setTimeout(() => { throw new Error('mine') }, 20)`)
        assert.equal(thrown.code, 1)
        assert.match(thrown.stderr, /Error: mine/)
        const killed = await child(`${busy} kalm.rerank('q', list); setTimeout(() => process.kill(process.pid, 'SIGTERM'), 20)`)
        assert.equal(killed.signal, 'SIGTERM')
    })
    test('garbage collection during and after work', async () => {
        await ends('done\n', `
            const list = Array.from({ length: 40 }, (_, i) => ('word ' + i + ' ').repeat(100))
            let sum = 0
            for (let i = 0; i < 30; i++) {
                const kalm = await Kalm.load(path, { backend: 'native', threads: 1 + i % 2 })
                const running = kalm.rerank('q', list).then((r) => { sum += r.length })
                gc()
                if (i % 3 === 0) kalm.free()
                await running.catch(() => { sum += 40 })
                gc()
                await new Promise(setImmediate)
            }
            gc()
            console.log(sum === 1200 ? 'done' : sum)`, '--expose-gc')
    })
    test('memory stays where it is', async () => {
        await ends('flat\n', `
            const list = Array.from({ length: 20 }, (_, i) => ('word ' + i + ' ').repeat(50))
            const rest = async () => { gc(); for (let i = 0; i < 5; i++) await new Promise(setImmediate); gc(); return process.memoryUsage().rss }
            let before                 // once the heap has the holes that models of both kinds leave: 40 MB, after 20 to 40 of them
            for (let i = 0; i < 80; i++) {
                const kalm = await Kalm.load(path, { backend: 'native', threads: 1, mmap: i % 2 === 0 })
                const docs = await kalm.encode(list)
                await kalm.rerank('q', docs)
                await kalm.rerank('q', [docs[0].slice(0, 9)]).catch(() => {})
                if (i % 2) kalm.free()
                if (i === 39) before = await rest()
            }
            const grown = await rest() - before
            console.log(grown < 6e7 ? 'flat' : grown)`, '--expose-gc')
    })
})

test('the addon itself takes anything from anyone', async () => {
    const { platform, arch } = process
    const library = platform !== 'linux' ? '' : existsSync('/etc/alpine-release') ? '.musl' : '.glibc'
    const file = here(`prebuilds/${platform}-${arch}/kalm-rerank${library}.node`)
    await ends('survived\n', `
        import { createRequire } from 'node:module'
        const addon = createRequire('/')(${JSON.stringify(file)})
        const open = addon.create(), reserved = addon.create()
        const bytes = (text) => new TextEncoder().encode(text)
        await new Promise((resolve) => addon.open(open, bytes(path), 0, [1, 0, 0, 0, 0], null, false, false, resolve))
        addon.reserve(reserved, 100)
        for (const size of [100, 2.5]) try { addon.reserve(size === 100 ? reserved : addon.create(), size); console.log('reserved') } catch {}
        const gone = new Uint8Array(8)
        structuredClone(gone.buffer, { transfer: [gone.buffer] })
        const trap = new Proxy([], { get(target, name) { if (name === '0') { addon.close(victim); throw new Error('trap') } return target[name] } })
        let victim = addon.create()
        const values = [undefined, null, true, 0, 1, 4, -1, 2.5, NaN, Infinity, 2 ** 32, 2 ** 53, 1n, 'text', Symbol('s'), {}, [], [1], [null],
            [bytes('a'), bytes('b')], new Uint8Array(0), new Uint8Array(100), bytes('q'), gone, new Int32Array([1, 2]), new Float64Array(2), new DataView(new ArrayBuffer(8)),
            new ArrayBuffer(8), () => {}, () => { throw new Error('thrown') }, open, reserved, addon.create(), trap, new Proxy({}, {}),
            Object.freeze([]), [[], []], new Date(), /x/, new Int32Array([-5, 2 ** 30]), [1, 0, 0, 0, 0], [2, 4, 4, 100], [bytes('q'), null, null]]
        let seed = 12345
        const random = (n) => { seed = (Math.imul(seed, 1103515245) + 12345) >>> 0; return (seed >>> 8) % n }
        let threw = 0
        for (let i = 0; i < 60000; i++) {
            const names = Object.keys(addon), name = names[random(names.length)]
            if (name === 'close' && random(20)) continue
            const first = random(4) ? [open, reserved, victim][random(3)] : values[random(values.length)]
            const args = Array.from({ length: random(10) }, () => values[random(values.length)])
            if (random(3) === 0 && name === 'rerank') args.splice(0, args.length, [bytes('q'), null, null], [bytes('a')], new Uint8Array([random(2)]), random(5), 0, 0, !random(2), () => {})
            if (random(3) === 0 && name === 'encode') args.splice(0, args.length, [bytes('a')], random(5), 0, 0, !random(2), () => { throw 5 })
            try { addon[name](first, ...args) } catch (error) { threw++ }
            if (i % 500 === 0) { await new Promise(setImmediate); victim = addon.create() }
        }
        console.log(threw > 1000 ? 'survived' : threw)
    `)
})
