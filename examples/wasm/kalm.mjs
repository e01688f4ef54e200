/* kalm.mjs - kalm_rerank in browsers, Node, and anything else with WebAssembly. No dependencies, and no generated code but for
   the builds with threads. One Kalm is one model in one WebAssembly instance, or, in Node where an addon for the machine is there,
   in native code (native.mjs); kalm.d.mts documents its methods.

     const kalm = await Kalm.load('nano.kalm')
     for (const { index, score } of await kalm.rerank('capital of China?', texts)) console.log(score, texts[index])

   Work is cut into slices of about SLICE_MS, and between two of them the event loop turns: a page stays alive (though it
   is smoother in a Worker, see worker.mjs), and an AbortSignal is heard. */

const SLICE_MS = 60
const TIMEOUT_MS = 30000               /* LoadOptions.timeout */
export const CODES = ['OK', 'BAD_ARGUMENT', 'NO_MEMORY', 'CANNOT_READ', 'BAD_FILE', 'BAD_VERSION', 'MISMATCH', 'NO_KERNELS', 'CANCELLED',
    'OVERFLOW', 'INCOMPLETE']
const HEADER_BYTES = 64                /* of a .kalm file: its signature, then version at 8 and size at 16 (src/format.h) */
const SIGNATURE = [0x89, 0x4b, 0x41, 0x4c, 0x4d, 0x0d, 0x0a, 0x1a]
const VERSION = 1
const WASM32_BYTES = 0xffff0000        /* 4 GiB less the last page, whose end no 32-bit number can name */
const UINT32_MAX = 0xffffffff

export class KalmError extends Error {
    /* code: one of CODES; message: one sentence */
    constructor(code, message, cause) {
        super(message, cause === undefined ? undefined : { cause })
        this.name = code === 'CANCELLED' ? 'AbortError' : 'KalmError'
        this.code = code
    }
}

/* ---- arguments: checked here, because WebAssembly would let numbers wrap ---- */

/* An integer from 0 to `most`; undefined and null stand for the default, 0. */
export function number(name, value, most = UINT32_MAX) {
    if (value === undefined || value === null) return 0
    if (typeof value !== 'number') throw new TypeError(`${name} is a number, not ${typeof value}`)
    if (!Number.isInteger(value) || value < 0 || value > most)
        throw new KalmError('BAD_ARGUMENT', `${name} is ${value}: it must be an integer from 0 to ${most}`)
    return value
}

/* A string, or undefined for the default. */
export function string(name, value) {
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'string') throw new TypeError(`${name} is a string, not ${typeof value}`)
    return value
}

/* ---- what this machine can run ---- */

export const isNode = typeof process === 'object' && !!process.versions?.node && process.type !== 'renderer'

/* The functions of node.mjs. kalm.node.mjs gives them; without it they are loaded by a name that bundlers for browsers do not
   take for a file of theirs. */
let node = null
export const useNode = (functions) => { node = functions }
const NODE_FILE = ['.', 'node.mjs'].join('/')
export const nodeFunctions = async () => node ??= await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE_FILE)

/* A function with one v128.const; one with i32x4.relaxed_dot_i8x16_i7x16_add_s; memory.atomic.notify on a shared memory. */
const SIMD_PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]
const RELAXED_PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 123, 123, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 1,
    32, 2, 253, 147, 2, 11]
const ATOMICS_PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 13, 1, 11, 0, 65, 0, 65, 0,
    254, 0, 2, 0, 26, 11]
const validates = (bytes) => {
    try {
        return WebAssembly.validate(new Uint8Array(bytes))
    } catch {
        return false
    }
}

export const features = () => ({
    simd: validates(SIMD_PROBE),
    relaxed: validates(RELAXED_PROBE),
    /* browsers give shared memory only to pages served with COOP and COEP headers */
    threads: typeof SharedArrayBuffer === 'function' && globalThis.crossOriginIsolated !== false && validates(ATOMICS_PROBE)
})

const cores = async () => isNode ? (await nodeFunctions()).cores() : globalThis.navigator?.hardwareConcurrency || 1
/* A browser's page itself must not wait for threads; its workers may. */
const mayBlock = () => isNode || typeof document === 'undefined'

async function chooseBuild(options) {
    const have = features()
    const asked = number('threads', options.threads, 256)
    if (options.simd && !have.simd) throw new KalmError('NO_KERNELS', 'this machine has no WebAssembly SIMD')
    if (options.relaxed && !have.relaxed) throw new KalmError('NO_KERNELS', 'this machine has no WebAssembly relaxed SIMD')
    if (asked > 1 && !have.threads)
        throw new KalmError('NO_KERNELS', 'threads need SharedArrayBuffer: serve the page with the headers '
            + 'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp')
    const simd = options.simd ?? have.simd
    /* Never slower than simd: it tries what the dot product is on this engine and uses it where it is one instruction; else its
       kernels are simd's, but for fused multiply-adds of float weights. */
    const relaxed = options.relaxed ?? (simd && have.relaxed && !options.wasm)
    const threads = asked || (have.threads && mayBlock() ? Math.min(await cores(), 8) : 1)
    return build(relaxed ? 'relaxed' : simd ? 'simd' : 'plain', threads)
}

const build = (kind, threads) => ({ kind, threads, name: kind + (threads > 1 ? '-threads' : '') })

/* ---- waiting: never longer than the caller allows ---- */

export const cancelled = (signal) => new KalmError('CANCELLED', 'the work was cancelled', signal?.reason)

/* `promise`, or a rejection when it takes too long or the signal is aborted. name: what is waited for, an address mostly. */
export function within(ms, name, promise, signal) {
    let timer, abort
    const stop = new Promise((_, reject) => {
        const late = new KalmError('CANNOT_READ', `${name}: no answer within ${ms / 1000} s`)
        if (ms > 0) timer = setTimeout(() => reject(Object.assign(late, { timeout: true })), ms)
        abort = () => reject(cancelled(signal))
        if (signal?.aborted) abort()
        else signal?.addEventListener?.('abort', abort)
    })
    return Promise.race([promise, stop]).finally(() => {
        clearTimeout(timer)
        signal?.removeEventListener?.('abort', abort)
    })
}

/* LoadOptions.timeout in milliseconds; 0: none */
export function timeoutOf(options) {
    const { timeout } = options
    if (timeout === undefined || timeout === null) return TIMEOUT_MS
    return timeout === Infinity ? 0 : number('timeout', timeout, 0x7fffffff)
}

/* ---- the module ---- */

/* The module; for threads, Emscripten's script and that of its Workers. Written out, so that bundlers see each file. */
const FILES = {
    'plain': { wasm: () => new URL('./dist/kalm_rerank-plain.wasm', import.meta.url) },
    'simd': { wasm: () => new URL('./dist/kalm_rerank-simd.wasm', import.meta.url) },
    'relaxed': { wasm: () => new URL('./dist/kalm_rerank-relaxed.wasm', import.meta.url) },
    'plain-threads': {
        wasm: () => new URL('./dist/kalm_rerank-plain-threads.wasm', import.meta.url),
        script: () => new URL('./dist/kalm_rerank-plain-threads.js', import.meta.url),
        worker: () => new URL('./dist/kalm_rerank-plain-threads.worker.js', import.meta.url)
    },
    'simd-threads': {
        wasm: () => new URL('./dist/kalm_rerank-simd-threads.wasm', import.meta.url),
        script: () => new URL('./dist/kalm_rerank-simd-threads.js', import.meta.url),
        worker: () => new URL('./dist/kalm_rerank-simd-threads.worker.js', import.meta.url)
    },
    'relaxed-threads': {
        wasm: () => new URL('./dist/kalm_rerank-relaxed-threads.wasm', import.meta.url),
        script: () => new URL('./dist/kalm_rerank-relaxed-threads.js', import.meta.url),
        worker: () => new URL('./dist/kalm_rerank-relaxed-threads.worker.js', import.meta.url)
    }
}
const ENDS = { wasm: '.wasm', script: '.js', worker: '.worker.js' }

/* An address in full: bundlers such as Next's give those of assets without a host, which a Worker made of a Blob cannot load. */
const full = (url) => isNode ? url : new URL(String(url), globalThis.location?.href)

/* The address of a file of dist/: beside this one, or in the folder that the caller names. */
const addressOf = (name, kind, assets) => assets === undefined ? full(FILES[name][kind]())
    : new URL(`kalm_rerank-${name}${ENDS[kind]}`, new URL(`${String(assets).replace(/\/?$/, '/')}`, globalThis.location?.href))

const compiled = new Map()             /* address -> Promise<WebAssembly.Module>: compiled once for all models */

function compile(url) {
    const key = String(url)
    if (!compiled.has(key)) {
        const promise = fetchBytes(url).then((bytes) => WebAssembly.compile(bytes).catch((cause) => {
            throw new KalmError('BAD_FILE', `${url}: no WebAssembly module that the engine can run: ${cause.message}`, cause)
        }))
        promise.catch(() => compiled.delete(key))
        compiled.set(key, promise)
    }
    return compiled.get(key)
}

async function fetchBytes(url) {
    try {
        if (url.protocol === 'file:' && isNode) return await (await nodeFunctions()).readFile(url)
        const answer = await fetch(url)
        if (answer.ok) return await answer.arrayBuffer()
        throw new KalmError('CANNOT_READ', `${url}: HTTP status ${answer.status}`)
    } catch (cause) {
        throw cause instanceof KalmError ? cause
            : new KalmError('CANNOT_READ', `${url}: ${cause.code === 'ENOENT' ? 'no such file' : 'cannot be read'}`, cause)
    }
}

/* { exports, memory, stop } of a new instance. `host.progress` is what the running call wants to hear. */
async function instantiate({ name, threads }, options, host) {
    const { wasm, assets, signal } = options
    const timeout = timeoutOf(options)
    const progress = (done, total) => host.progress ? host.progress(done, total) : 0
    const base = async () => globalThis.location?.href ?? (await nodeFunctions()).baseURL()
    const address = wasm === undefined || wasm === null ? addressOf(name, 'wasm', assets)
        : typeof wasm === 'string' || wasm instanceof URL ? new URL(wasm, await base()) : null      /* null: the module itself */
    const module = wasm instanceof WebAssembly.Module ? wasm
        : address === null ? await WebAssembly.compile(wasm)
        : await within(timeout, address.href, compile(address), signal)
    if (threads === 1) {
        const instance = await WebAssembly.instantiate(module, {
            env: { kalm_js_progress: progress, emscripten_notify_memory_growth() {} }
        })
        instance.exports._initialize()
        return { exports: instance.exports, memory: instance.exports.memory, stop() {} }
    }
    return startThreads(module, threads, addressOf(name, 'script', assets), addressOf(name, 'worker', assets), progress, timeout,
        signal)
}

/* The same with Workers for threads, by Emscripten's script at `script`. */
async function startThreads(module, threads, script, worker, progress, timeout, signal) {
    const factory = await within(timeout, script.href, loadScript(script), signal)
    if (isNode) await fetchBytes(worker)                   /* a missing file is an error here; there it would end the process */
    const file = isNode ? (await nodeFunctions()).pathOf(worker)
        : (await within(timeout, worker.href, ownOrigin(worker), signal)).href
    const found = { stop() {} }
    const settings = {
        kalmProgress: progress,
        kalmThreads: threads - 1,                          /* besides the one that calls */
        mainScriptUrlOrBlob: isNode ? (await nodeFunctions()).pathOf(script) : script.href,
        locateFile: () => file,
        instantiateWasm(imports, receive) {
            found.memory = imports.env.memory
            WebAssembly.instantiate(module, imports).then((instance) => {
                found.exports = instance.exports
                receive(instance, module)
                for (const one of workers()) one.onerror = () => {}        /* Emscripten's prints and throws; ours is below */
            }).catch(failed)
            return {}
        }
    }
    let failed
    const failure = new Promise((_, reject) => { failed = reject })
    failure.catch(() => {})
    const started = factory(settings)
    const workers = () => [...settings.PThread?.unusedWorkers ?? [], ...settings.PThread?.runningWorkers ?? []]
    found.stop = () => {
        for (const one of workers()) one.terminate()       /* those that never started, too */
        settings.PThread?.terminateAllThreads?.()
    }
    const fail = (event) => failed(new KalmError('CANNOT_READ', `${worker.href}: the thread cannot be started`
        + (event?.message ? `: ${event.message}` : ''), event instanceof Error ? event : undefined))
    for (const one of workers()) {
        if (isNode) one.on('error', fail)
        else one.addEventListener('error', (event) => {
            event.preventDefault?.()
            fail(event)
        })
    }
    try {
        await within(timeout, worker.href, Promise.race([started, failure]), signal)
    } catch (error) {
        found.stop()
        throw error
    }
    found.memory ??= settings.wasmMemory
    /* a finished program must not wait for idle threads */
    for (const one of workers()) one.unref?.()
    return found
}

/* An address that Workers may be made of: they may not come from elsewhere, nor share memory if they are data: URLs. */
async function ownOrigin(url) {
    if (url.protocol !== 'data:' && url.origin === globalThis.location?.origin) return url
    return new URL(URL.createObjectURL(new Blob([await fetchBytes(url)], { type: 'text/javascript' })))
}

const scripts = new Map()

async function loadScript(url) {
    if (!scripts.has(url.href)) {
        let factory
        if (isNode) {
            if (url.protocol !== 'file:') throw new KalmError('BAD_ARGUMENT', `${url}: threads in Node need files, not addresses`)
            await fetchBytes(url)      /* which says what is missing */
            try {
                factory = (await nodeFunctions()).requireScript(url)
            } catch (cause) {
                throw new KalmError('BAD_FILE', `${url}: cannot be run: ${cause.message}`, cause)
            }
        } else {
            delete globalThis.KalmThreads
            await import(/* webpackIgnore: true */ /* @vite-ignore */ url.href).catch((cause) => {
                throw new KalmError('CANNOT_READ', `${url}: cannot be loaded as a script: ${cause.message}`, cause)
            })
            factory = globalThis.KalmThreads
        }
        if (typeof factory !== 'function') throw new KalmError('BAD_FILE', `${url}: this is not the script of the threads`)
        scripts.set(url.href, factory)
    }
    return scripts.get(url.href)
}

/* ---- where models come from ---- */

/* { name, chunks, size }: size is how many bytes there are, where that is certain. What a server says is not: it counts the bytes
   of a compressed answer. */
async function openSource(source, signal, timeout) {
    if (source instanceof ArrayBuffer || (typeof SharedArrayBuffer === 'function' && source instanceof SharedArrayBuffer))
        source = new Uint8Array(source)
    if (ArrayBuffer.isView(source)) {
        const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
        return { name: 'the model', size: bytes.length, chunks: pieces(bytes) }
    }
    if (typeof Blob === 'function' && source instanceof Blob)
        return { name: source.name || 'the model', size: source.size, chunks: read(source.stream()) }
    if (typeof source === 'string' || source instanceof URL) {
        const text = String(source)
        if (isNode && (text.startsWith('file:') || !/^[a-z][a-z0-9+.-]+:/i.test(text))) return openPath(text)
        try {
            source = await within(timeout, text, fetch(source, { signal }), signal)
        } catch (cause) {
            if (cause instanceof KalmError) throw cause
            throw signal?.aborted ? cancelled(signal) : new KalmError('CANNOT_READ', `${text}: cannot be reached`, cause)
        }
        return openAnswer(source, text)
    }
    if (typeof Response === 'function' && source instanceof Response) return openAnswer(source, source.url || 'the answer')
    if (typeof source?.getReader === 'function') return { name: 'the stream of the model', chunks: read(source) }
    if (source?.[Symbol.asyncIterator]) return { name: 'the stream of the model', chunks: source[Symbol.asyncIterator]() }
    throw new TypeError('Kalm.load: a model is a URL, File, Blob, Response, ReadableStream, ArrayBuffer or typed array')
}

/* The stream of a Response that has a model. */
export function bodyOf(answer, name) {
    if (!answer.ok) throw new KalmError('CANNOT_READ', `${name}: HTTP status ${answer.status}`)
    if (!answer.body) throw new KalmError('BAD_FILE', `${name}: the answer is empty`)
    if (answer.bodyUsed || answer.body.locked) throw new KalmError('BAD_ARGUMENT', `${name}: the answer was read already`)
    return answer.body
}

const openAnswer = (answer, name) => ({ name, chunks: read(bodyOf(answer, name)) })

async function* pieces(bytes) {
    for (let at = 0; at < bytes.length; at += 1 << 22) {
        if (at) await turn()           /* hundreds of megabytes are copied: timers and clicks come between */
        yield bytes.subarray(at, at + (1 << 22))
    }
}

/* An iterator over a stream: not every browser can iterate over streams yet, and return() must not wait for one that is stuck. */
function read(stream) {
    const reader = stream.getReader()
    return {
        next: () => reader.read(),
        return(value) {
            reader.cancel().catch(() => {})
            return Promise.resolve({ done: true, value })
        }
    }
}

async function openPath(text) {
    try {
        const { size, chunks } = await (await nodeFunctions()).openPath(text.startsWith('file:') ? new URL(text) : text)
        return { name: `"${text}"`, size, chunks: chunks[Symbol.asyncIterator]() }
    } catch (cause) {
        throw new KalmError('CANNOT_READ', `"${text}": ${cause.code === 'ENOENT' ? 'no such file' : 'cannot be read'}`, cause)
    }
}

/* What an iterator yields, as bytes; each piece within the time-out. */
async function* bytesOf({ name, chunks }, signal, timeout) {
    try {
        for (;;) {
            const { done, value } = await within(timeout, name, chunks.next(), signal).catch((cause) => {
                if (signal?.aborted) throw cancelled(signal)
                throw cause instanceof KalmError ? cause
                    : new KalmError('CANNOT_READ', `${name} broke off while it was read: ${cause?.message}`, cause)
            })
            if (done) return
            if (ArrayBuffer.isView(value)) yield new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
            else if (value instanceof ArrayBuffer) yield new Uint8Array(value)
            else throw new TypeError(`Kalm.load: ${name} yields ${typeof value}, not bytes`)
        }
    } finally {
        Promise.resolve(chunks.return?.()).catch(() => {})
    }
}

/* The whole of a model into memory, as it arrives: reserve(size) gives the place of that many bytes, put(place, bytes) fills it.
   { at, filled }: where it begins, and how many bytes there are. */
export async function receive(source, options, reserve, put) {
    const { signal, onProgress } = options
    const timeout = timeoutOf(options)
    const opened = await openSource(source, signal, timeout)
    let head = new Uint8Array(0), at, size = 0, filled = 0
    const add = (chunk) => {
        if (filled + chunk.length > size)
            throw new KalmError('BAD_FILE', `${opened.name}: the model file says it has ${size} bytes, more than that came`)
        put(at + filled, chunk)
        filled += chunk.length
    }
    for await (const part of bytesOf(opened, signal, timeout)) {
        let chunk = part
        if (at === undefined) {        /* its first bytes tell whether to go on, and how much will come */
            const joined = new Uint8Array(head.length + chunk.length)
            joined.set(head)
            joined.set(chunk, head.length)
            head = joined
            if (head.length < HEADER_BYTES) continue
            const view = new DataView(head.buffer)
            if (SIGNATURE.some((byte, i) => head[i] !== byte) || view.getUint32(8, true) !== VERSION) break
            size = Number(view.getBigUint64(16, true))
            /* no memory is asked for what cannot come; the library says what is wrong */
            if (opened.size < size) size = opened.size
            at = reserve(size)
            chunk = head
        }
        add(chunk)
        onProgress?.({ loaded: filled, total: size })
        if (signal?.aborted) throw cancelled(signal)
    }
    if (at === undefined) {            /* too short, or not ours: the library says which */
        size = head.length
        at = reserve(size)
        add(head)
    }
    if (signal?.aborted) throw cancelled(signal)
    return { at, filled }
}

/* ---- native or WebAssembly ---- */

/* The function that loads a model natively; null: WebAssembly is to do it. Where nobody insists the addon is taken if there is one
   for this machine, and nothing is asked for that only WebAssembly has. */
async function nativeOf(options) {
    const { backend } = options
    if (backend !== undefined && backend !== null && backend !== 'native' && backend !== 'wasm')
        throw new KalmError('BAD_ARGUMENT', `backend is ${String(backend)}: it must be "native" or "wasm"`)
    if (backend === 'native' && !isNode) throw new KalmError('NO_KERNELS', 'the native addon is for Node alone')
    if (backend === 'wasm' || !isNode) return null
    if (!backend && ['simd', 'relaxed', 'wasm', 'assets'].some((name) => options[name] !== undefined)) return null
    return (await nodeFunctions()).nativeLoad(backend === 'native')
}

/* ---- yielding ---- */

/* Let the event loop turn. Timers would wait 4 ms. */
export const turn = typeof setImmediate === 'function' ? () => new Promise((resolve) => { setImmediate(resolve) })
    : () => new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = () => {
            port1.close()
            resolve()
        }
        port2.postMessage(0)
    })

export const encoder = new TextEncoder()      /* a lone surrogate becomes one U+FFFD */
export const decoder = new TextDecoder()
export const PARSE_CONTROL = 2
const CUT_DOCUMENT = 1, CUT_QUERY = 2

export class Kalm {
    #wasm
    #host = { progress: null }
    #build
    #open = false
    #broken = null                     /* why the instance is of no use any more */
    #inside = false                    /* the library is at work: what is called now is called from its progress */

    static async load(source, options = {}) {
        const native = await nativeOf(options)
        if (native) return native(source, options)
        const kalm = new Kalm()
        kalm.#build = await chooseBuild(options)
        const limits = [number('maxDocTokens', options.maxDocTokens), number('maxQueryTokens', options.maxQueryTokens),
            number('cacheBytes', options.cacheBytes), number('stateBits', options.stateBits)]
        const kernels = string('kernels', options.kernels)
        if (options.signal?.aborted) throw cancelled(options.signal)
        try {
            kalm.#wasm = kalm.#guarded(await instantiate(kalm.#build, options, kalm.#host))
        } catch (error) {              /* a dist/ that was built without it, or an engine that spoke its draft */
            if (kalm.#build.kind !== 'relaxed' || options.relaxed || error.timeout || error.code === 'CANCELLED') throw error
            kalm.#build = build('simd', kalm.#build.threads)
            kalm.#wasm = kalm.#guarded(await instantiate(kalm.#build, options, kalm.#host))
        }
        try {
            await kalm.#read(source, options, limits, kernels)
        } catch (error) {
            kalm.#wasm.stop()
            kalm.#wasm = null
            throw error
        }
        return kalm
    }

    /* An instance that the engine left in the middle of a call, for want of stack or by a trap, has its own stack and its data as they
       were then: what it gave after that would be anything. It says so, and does nothing more. */
    #guarded(wasm) {
        const exports = {}
        for (const [name, call] of Object.entries(wasm.exports)) {
            if (typeof call === 'function') exports[name] = (...values) => {
                if (this.#broken) throw this.#broken
                try {
                    return call(...values)
                } catch (cause) {
                    throw this.#broken = new KalmError('BAD_ARGUMENT', 'this Kalm was left in the middle of a call and must be loaded anew: '
                        + (cause?.message ?? cause), cause)
                }
            }
        }
        return { ...wasm, exports, get memory() { return wasm.memory } }
    }

    /* ---- memory: views are made anew after every call that may have grown it ---- */

    #bytes(at, count) { return new Uint8Array(this.#wasm.memory.buffer, at, count) }
    #words(at, count) { return new Uint32Array(this.#wasm.memory.buffer, at, count) }

    #text(at, count) {
        return decoder.decode(this.#bytes(at, count).slice())      /* a copy: decoders refuse shared memory */
    }

    #cText(at) {
        if (!at) return ''
        const all = new Uint8Array(this.#wasm.memory.buffer)
        return this.#text(at, all.indexOf(0, at) - at)
    }

    #alloc(size) {                     /* a size beyond 32 bits would wrap */
        const at = size < WASM32_BYTES ? this.#wasm.exports.kalm_wasm_alloc(size) >>> 0 : 0
        if (!at) throw new KalmError('NO_MEMORY', `no memory for ${size} bytes`)
        return at
    }

    #release(at) {
        if (at) this.#wasm.exports.kalm_wasm_release(at)
    }

    /* `work` gets an alloc whose memory lives until it returns */
    #scoped(work) {
        const taken = []
        try {
            return work((size) => {
                const at = this.#alloc(size)
                taken.push(at)
                return at
            })
        } finally {
            for (const at of taken) this.#release(at)
        }
    }

    #put(alloc, bytes) {
        const at = alloc(bytes.length)
        this.#bytes(at, bytes.length).set(bytes)
        return at
    }

    /* An array of kalm_text { pointer, bytes }; undefined is the default: NULL. */
    #putTexts(alloc, texts) {
        const coded = texts.map((text) => text === undefined || text === null ? null : encoder.encode(text))
        const list = alloc(8 * texts.length)
        const places = coded.flatMap((bytes) => bytes ? [this.#put(alloc, bytes), bytes.length] : [0, 0])
        this.#words(list, places.length).set(places)
        return list
    }

    #check(result, signal) {
        if (!result) return
        if (CODES[result] === 'CANCELLED') throw cancelled(signal)
        const at = this.#wasm.exports.kalm_wasm_error() >>> 0
        throw new KalmError(CODES[result] ?? 'BAD_ARGUMENT', this.#cText(at + 4))
    }

    #need() {
        if (!this.#open) throw new KalmError('BAD_ARGUMENT', 'this Kalm was freed')
        if (this.#broken) throw this.#broken
    }

    /* ---- loading ---- */

    async #read(source, options, limits, kernels) {
        const { at, filled } = await receive(source, options, (size) => this.#reserve(size),
            (place, chunk) => this.#bytes(place, chunk.length).set(chunk))
        this.#scoped((alloc) => {
            const name = kernels ? this.#put(alloc, encoder.encode(kernels + '\0')) : 0
            this.#check(this.#wasm.exports.kalm_wasm_open(at, filled, this.#build.threads, ...limits, name))
        })
        this.#open = true
        if (options.verify) this.#check(this.#wasm.exports.kalm_wasm_verify())
    }

    #reserve(size) {
        const at = size < WASM32_BYTES ? this.#wasm.exports.kalm_wasm_reserve(size) >>> 0 : 0
        if (at) return at
        throw new KalmError('NO_MEMORY', size < WASM32_BYTES
            ? `no memory for the ${size} bytes of the model`
            : `the model has ${size} bytes; WebAssembly with 32-bit addresses holds less than 4294967296 in all`)
    }

    /* ---- slices ---- */

    /* work(first, count, phase) for slices of 0..total; phase(from, to) says which part of the slice's progress the next
       call into the library stands for. */
    async #slices(total, { signal, onProgress }, work) {
        let first = 0, next = 1
        while (first < total) {
            if (first) await turn()
            while (this.#inside) await turn()      /* called from the progress of another call: that one first */
            this.#need()
            if (signal?.aborted) throw cancelled(signal)
            const count = Math.min(next, total - first)
            const began = performance.now()
            const report = (part) => onProgress?.({ part: (first + count * part) / total, done: first, total })
            const thrown = []
            const phase = (from, to) => {
                this.#host.progress = (done, of) => {
                    if (thrown.length) return 1
                    try {
                        report(from + (to - from) * done / Math.max(of, 1))
                        return signal?.aborted || !this.#open ? 1 : 0
                    } catch (error) {  /* the library is on the stack: it stops first */
                        thrown.push(error)
                        return 1
                    }
                }
            }
            phase(0, 1)
            try {
                this.#inside = true
                work(first, count, phase)
            } catch (error) {
                if (thrown.length) throw thrown[0]
                if (!this.#open) this.#need()
                if (error instanceof KalmError) error.message = countFrom(first, error.message)
                throw error
            } finally {
                this.#host.progress = null
                this.#inside = false
                if (!this.#open) this.#end()
            }
            first += count
            /* at most twice as many, so that one short text does not mislead */
            const fits = Math.floor(count * SLICE_MS / Math.max(performance.now() - began, 0.5))
            next = Math.max(1, Math.min(fits, 2 * count, 64))
        }
        onProgress?.({ part: 1, done: total, total })
    }

    /* ---- tokens ---- */

    tokenize(text, options = {}) {
        this.#need()
        checkText(text)
        const flags = options.parseControl ? PARSE_CONTROL : 0
        return this.#scoped((alloc) => {
            const bytes = encoder.encode(text)
            const from = this.#put(alloc, bytes)
            const count = alloc(4)
            let room = bytes.length + 16               /* enough for all texts but odd ones */
            for (;;) {
                const ids = alloc(4 * room)
                this.#check(this.#wasm.exports.kalm_wasm_tokenize(from, bytes.length, flags, ids, room, count))
                const n = this.#words(count, 1)[0]
                if (n <= room) return new Int32Array(this.#wasm.memory.buffer, ids, n).slice()
                room = n
            }
        })
    }

    detokenize(tokens) {
        this.#need()
        checkTokens(tokens)
        return this.#scoped((alloc) => {
            const ids = alloc(4 * tokens.length)
            new Int32Array(this.#wasm.memory.buffer, ids, tokens.length).set(tokens)
            const size = alloc(4)
            this.#check(this.#wasm.exports.kalm_wasm_detokenize(ids, tokens.length, 0, 0, size))
            const n = this.#words(size, 1)[0]
            const text = alloc(n)
            this.#check(this.#wasm.exports.kalm_wasm_detokenize(ids, tokens.length, text, n, size))
            return this.#text(text, n)
        })
    }

    /* ---- documents ---- */

    #encodeSlice(texts, options, defaultBits) {
        return this.#scoped((alloc) => {
            const list = this.#putTexts(alloc, texts)
            const docs = alloc(4 * texts.length)
            this.#check(this.#wasm.exports.kalm_wasm_encode(list, texts.length, number('ratio', options.ratio),
                number('bits', options.bits) || defaultBits, options.parseControl ? PARSE_CONTROL : 0, docs), options.signal)
            return [...this.#words(docs, texts.length)]
        })
    }

    #stored(doc, alloc) {
        const size = alloc(4)
        const at = this.#wasm.exports.kalm_wasm_doc_bytes(doc, size) >>> 0
        return this.#bytes(at, this.#words(size, 1)[0]).slice()
    }

    #freeDocs(docs) {
        for (const doc of docs) if (doc) this.#wasm?.exports.kalm_wasm_doc_free(doc)
    }

    async encode(texts, options = {}) {
        this.#need()
        const single = typeof texts === 'string'
        const list = single ? [texts] : checkTexts(texts)
        number('ratio', options.ratio)
        number('bits', options.bits)
        const out = []
        await this.#slices(list.length, options, (first, count) => {
            const docs = this.#encodeSlice(list.slice(first, first + count), options, 0)
            try {
                this.#scoped((alloc) => {
                    for (const doc of docs) out.push(this.#stored(doc, alloc))
                })
            } finally {
                this.#freeDocs(docs)
            }
        })
        return single ? out[0] : out
    }

    /* A handle of stored bytes, at a coarser ratio where one is asked for; to be freed. */
    #openDoc(bytes, ratio, index) {
        if (!(bytes instanceof Uint8Array)) throw new TypeError('a document is a Uint8Array')
        return this.#scoped((alloc) => {
            const { exports } = this.#wasm
            const out = alloc(24)
            try {
                this.#check(exports.kalm_wasm_doc_open(this.#put(alloc, bytes), bytes.length, out))
            } catch (error) {
                if (index !== undefined) error.message = `document ${index} cannot be used: ${error.message}`
                throw error
            }
            const doc = this.#words(out, 1)[0]
            exports.kalm_wasm_doc_info(doc, out)
            if (!ratio || this.#words(out, 6)[3] === ratio) return doc
            try {
                this.#check(exports.kalm_wasm_doc_repool(doc, ratio, 0, out))
                return this.#words(out, 1)[0]
            } finally {
                exports.kalm_wasm_doc_free(doc)
            }
        })
    }

    docInfo(bytes) {
        this.#need()
        const doc = this.#openDoc(bytes)
        try {
            return this.#scoped((alloc) => {
                const out = alloc(24)
                this.#wasm.exports.kalm_wasm_doc_info(doc, out)
                const [tokens, tokensUsed, rows, ratio, width, bits] = this.#words(out, 6)
                return { tokens, tokensUsed, rows, ratio, width, bits }
            })
        } finally {
            this.#freeDocs([doc])
        }
    }

    repool(bytes, ratio, bits = 0) {
        this.#need()
        number('ratio', ratio)
        bits = number('bits', bits)
        const doc = this.#openDoc(bytes)
        try {
            return this.#scoped((alloc) => {
                const out = alloc(4)
                this.#check(this.#wasm.exports.kalm_wasm_doc_repool(doc, ratio, bits, out))
                const coarser = this.#words(out, 1)[0]
                const stored = this.#stored(coarser, alloc)
                this.#freeDocs([coarser])
                return stored
            })
        } finally {
            this.#freeDocs([doc])
        }
    }

    /* ---- reranking ---- */

    async rerank(query, documents, options = {}) {
        this.#need()
        const most = checkRerank(query, documents, options)
        documents = Array.from(documents)              /* as it is now: the caller may change his between two slices */
        const total = documents.length
        const scores = this.#alloc(16 * total)
        try {
            await this.#slices(total, options, (first, count, phase) => {
                this.#rerankSlice(query, documents.slice(first, first + count), options, scores + 16 * first, phase)
                const words = this.#words(scores + 16 * first, 4 * count)
                for (let i = 0; i < count; i++) words[4 * i] = first + i           /* of the whole array */
            })
            return this.#sorted(scores, total, most)
        } finally {
            if (this.#wasm) this.#release(scores)
        }
    }

    #rerankSlice(query, documents, options, scores, phase) {
        const count = documents.length
        const docs = new Array(count).fill(0)
        const texts = documents.flatMap((d, i) => typeof d === 'string' ? [i] : [])
        const encoding = 0.7 * texts.length / count    /* of the time: a text takes longer than the query */
        try {
            documents.forEach((d, i) => {
                if (typeof d !== 'string') docs[i] = this.#openDoc(d, options.ratio, i)
            })
            if (texts.length) {
                phase(0, encoding)
                this.#encodeSlice(texts.map((i) => documents[i]), options, 32).forEach((doc, i) => { docs[texts[i]] = doc })
            }
            phase(encoding, 1)
            this.#scoped((alloc) => {
                const list = alloc(4 * count)
                this.#words(list, count).set(docs)
                const given = this.#putTexts(alloc, [query, options.system, options.instruction])
                this.#check(this.#wasm.exports.kalm_wasm_rerank(given, list, count, given + 8, given + 16,
                    options.parseControl ? PARSE_CONTROL : 0, scores), options.signal)
            })
        } finally {
            this.#freeDocs(docs)
        }
    }

    #sorted(scores, total, most) {
        this.#wasm.exports.kalm_wasm_sort(scores, total)
        return rankedOf(this.#wasm.memory.buffer, scores, Math.min(total, most))
    }

    /* ---- the rest ---- */

    get info() {
        this.#need()
        const w = this.#words(this.#wasm.exports.kalm_wasm_info() >>> 0, 19).slice()
        const wide = (at) => BigInt(w[at]) | BigInt(w[at + 1]) << 32n
        return {
            name: this.#cText(w[0]), weights: this.#cText(w[1]), vocabulary: w[3], layers: w[4], width: w[5], maxTokens: w[6],
            hasTokenizer: w[7] !== 0, hasEncoder: w[15] !== 0, hasDecoder: w[16] !== 0, yesId: w[8] | 0, noId: w[9] | 0, bytes: Number(wide(10)),
            fingerprint: wide(12).toString(16).padStart(16, '0'),
            cutVocabulary: wide(17) ? wide(17).toString(16).padStart(16, '0') : null, build: this.#build.name, kernels: this.#cText(w[2]),
            threads: this.#build.threads, memory: this.#wasm.memory.buffer.byteLength,
            version: `${w[14] >>> 16}.${w[14] >>> 8 & 255}.${w[14] & 255}`
        }
    }

    verify() {
        this.#need()
        this.#check(this.#wasm.exports.kalm_wasm_verify())
    }

    /* Twice is fine. The instance, and with it all its memory, is left to the garbage collector. */
    free() {
        if (!this.#open) return
        this.#open = false
        if (!this.#inside) this.#end()             /* else when the library returns, which it does at once */
    }

    #end() {
        if (!this.#broken) this.#wasm?.exports.kalm_wasm_close()
        this.#wasm?.stop()
        this.#wasm = null
    }
}

/* ---- what the methods check and make, natively too ---- */

export function checkText(text) {
    if (typeof text !== 'string') throw new TypeError('tokenize: the text is a string')
}

export function checkTokens(tokens) {
    if (typeof tokens !== 'object' || tokens === null || !Number.isInteger(tokens.length))
        throw new TypeError('detokenize: tokens are an array of numbers')
    for (let i = 0; i < tokens.length; i++) {
        if (typeof tokens[i] !== 'number') throw new TypeError(`detokenize: token ${i} is ${typeof tokens[i]}, not a number`)
        number(`token ${i}`, tokens[i], 0x7fffffff)
    }
}

/* How many results are wanted at most. (forEach would pass over what an array lacks.) */
export function checkRerank(query, documents, options) {
    if (typeof query !== 'string') throw new TypeError('rerank: the query is a string')
    if (!Array.isArray(documents)) throw new TypeError('rerank: documents are an array of strings and Uint8Arrays')
    for (let i = 0; i < documents.length; i++)
        if (typeof documents[i] !== 'string' && !(documents[i] instanceof Uint8Array))
            throw new TypeError(`rerank: document ${i} is neither a string nor a Uint8Array`)
    number('ratio', options.ratio)
    number('bits', options.bits)
    string('system', options.system)
    string('instruction', options.instruction)
    return options.topK === undefined || options.topK === null || options.topK === Infinity ? documents.length
        : number('topK', options.topK, Number.MAX_SAFE_INTEGER)
}

/* An error of the library about a slice of the documents counts from the slice's first. */
export const countFrom = (first, message) =>
    message.replace(/\b(document|text) (\d+)\b/, (_, what, i) => `${what} ${first + Number(i)}`)

/* `count` kalm_scores { uint32 index, uint32 cut, float margin, float score } as objects */
export function rankedOf(buffer, at, count) {
    const words = new Uint32Array(buffer, at, 4 * count), floats = new Float32Array(buffer, at, 4 * count)
    return Array.from({ length: count }, (_, n) => {
        const i = 4 * n
        return { index: words[i], score: floats[i + 3], margin: floats[i + 2], cut: words[i + 1] !== 0,
            cutDocument: !!(words[i + 1] & CUT_DOCUMENT), cutQuery: !!(words[i + 1] & CUT_QUERY) }
    })
}

/* A copy of the texts, since the caller may change his between two slices. */
export function checkTexts(texts) {
    if (!Array.isArray(texts)) throw new TypeError('encode: texts are a string or an array of strings')
    for (let i = 0; i < texts.length; i++)
        if (typeof texts[i] !== 'string') throw new TypeError(`encode: text ${i} is not a string`)
    return Array.from(texts)
}

export default Kalm
