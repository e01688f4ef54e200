/* kalm.mjs - kalm_rerank in browsers, node, and anything else with WebAssembly. No dependencies, no generated code
   but for the threads. One Kalm is one model in one WebAssembly instance; its methods are in kalm.d.mts, with their promises.

     const kalm = await Kalm.load('nano.kalm')
     for (const { index, score } of await kalm.rerank('capital of China?', texts)) console.log(score, texts[index])

   Work is cut into slices of about SLICE_MS, and between two of them the event loop turns: a page stays alive (though it
   is smoother in a Worker, see worker.mjs), and an AbortSignal is heard. */

const SLICE_MS = 60
const CODES = ['OK', 'BAD_ARGUMENT', 'NO_MEMORY', 'CANNOT_READ', 'BAD_FILE', 'BAD_VERSION', 'MISMATCH', 'NO_KERNELS', 'CANCELLED']
const HEADER_BYTES = 64                /* of a .kalm file: its signature, then version at 8 and size at 16 */
const SIGNATURE = [0x89, 0x4b, 0x41, 0x4c, 0x4d, 0x0d, 0x0a, 0x1a]
const VERSION = 1
const WASM32_BYTES = 0xffff0000        /* 4 GiB less the last page, whose end no 32-bit number can name */

export class KalmError extends Error {
    /* code: one of CODES; message: the library's sentence */
    constructor(code, message, cause) {
        super(message, cause === undefined ? undefined : { cause })
        this.name = code === 'CANCELLED' ? 'AbortError' : 'KalmError'
        this.code = code
    }
}

/* ---- what this machine can run ---- */

const isNode = typeof process === 'object' && !!process.versions?.node && process.type !== 'renderer'

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

const cores = async () => isNode ? (await import('node:os')).cpus().length : globalThis.navigator?.hardwareConcurrency || 1
/* A browser's page itself must not wait for threads; its workers may. */
const mayBlock = () => isNode || typeof document === 'undefined'

async function chooseBuild(options) {
    const have = features()
    if (options.simd && !have.simd) throw new KalmError('NO_KERNELS', 'this machine has no WebAssembly SIMD')
    if (options.relaxed && !have.relaxed) throw new KalmError('NO_KERNELS', 'this machine has no WebAssembly relaxed SIMD')
    if (options.threads > 1 && !have.threads)
        throw new KalmError('NO_KERNELS', 'threads need SharedArrayBuffer: serve the page with the headers '
            + 'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp')
    const simd = options.simd ?? have.simd
    /* Never slower than simd: it tries what the dot product is on this engine and uses it where it is one instruction; else its
       kernels are simd's, but for fused multiply-adds of float weights. */
    const relaxed = options.relaxed ?? (simd && have.relaxed && !options.wasm)
    const threads = options.threads || (have.threads && mayBlock() ? Math.min(await cores(), 8) : 1)
    return build(relaxed ? 'relaxed' : simd ? 'simd' : 'plain', threads)
}

const build = (kind, threads) => ({ kind, threads, name: kind + (threads > 1 ? '-threads' : '') })

/* ---- the module ---- */

/* Written out one by one, so that bundlers see each file. */
const FILES = {
    'simd': () => new URL('./dist/kalm_rerank-simd.wasm', import.meta.url),
    'plain': () => new URL('./dist/kalm_rerank-plain.wasm', import.meta.url),
    'relaxed': () => new URL('./dist/kalm_rerank-relaxed.wasm', import.meta.url),
    'relaxed-threads': () => new URL('./dist/kalm_rerank-relaxed-threads.wasm', import.meta.url),
    'simd-threads': () => new URL('./dist/kalm_rerank-simd-threads.wasm', import.meta.url),
    'plain-threads': () => new URL('./dist/kalm_rerank-plain-threads.wasm', import.meta.url)
}
const GLUE = {
    'relaxed-threads': () => new URL('./dist/kalm_rerank-relaxed-threads.js', import.meta.url),
    'simd-threads': () => new URL('./dist/kalm_rerank-simd-threads.js', import.meta.url),
    'plain-threads': () => new URL('./dist/kalm_rerank-plain-threads.js', import.meta.url)
}

const compiled = new Map()             /* address -> Promise<WebAssembly.Module>: compiled once for all models */

function compile(url) {
    const key = String(url)
    if (!compiled.has(key)) {
        const promise = readAll(url).then((bytes) => WebAssembly.compile(bytes))
        promise.catch(() => compiled.delete(key))
        compiled.set(key, promise)
    }
    return compiled.get(key)
}

async function readAll(url) {
    if (url.protocol === 'file:' && isNode) {
        const { readFile } = await import('node:fs/promises')
        return readFile(url)
    }
    const answer = await fetch(url)
    if (!answer.ok) throw new KalmError('CANNOT_READ', `${url}: HTTP status ${answer.status}`)
    return answer.arrayBuffer()
}

/* { exports, memory, stop } of a new instance. `host.progress` is what the running call wants to hear. */
async function instantiate({ name, threads }, wasm, host) {
    const progress = (done, total) => host.progress ? host.progress(done, total) : 0
    const module = wasm instanceof WebAssembly.Module ? wasm
        : wasm instanceof ArrayBuffer || ArrayBuffer.isView(wasm) ? await WebAssembly.compile(wasm)
        : await compile(wasm ? new URL(wasm, globalThis.location?.href) : FILES[name]())
    if (threads === 1) {
        const instance = await WebAssembly.instantiate(module, {
            env: { kalm_js_progress: progress, emscripten_notify_memory_growth() {} }
        })
        instance.exports._initialize()
        return { exports: instance.exports, memory: instance.exports.memory, stop() {} }
    }
    const address = GLUE[name]()
    const factory = await loadGlue(address, name)
    const found = { stop() {} }
    const glue = await factory({
        kalmProgress: progress,
        kalmThreads: threads - 1,                  /* besides the one that calls */
        mainScriptUrlOrBlob: isNode ? (await import('node:url')).fileURLToPath(address) : address.href,
        locateFile: (file) => {
            const url = new URL(file, address)
            return isNode ? decodeURIComponent(url.pathname) : url.href
        },
        instantiateWasm(imports, receive) {
            found.memory = imports.env.memory
            WebAssembly.instantiate(module, imports).then((instance) => {
                found.exports = instance.exports
                receive(instance, module)
            })
            return {}
        }
    })
    const pool = glue.PThread
    found.memory ??= glue.wasmMemory
    found.stop = () => pool.terminateAllThreads()
    /* a finished program must not wait for idle threads */
    for (const worker of [...pool.unusedWorkers, ...pool.runningWorkers]) worker.unref?.()
    return found
}

const glues = new Map()

async function loadGlue(address, name) {
    if (!glues.has(name)) {
        if (isNode) {
            const { createRequire } = await import('node:module')
            glues.set(name, createRequire(import.meta.url)((await import('node:url')).fileURLToPath(address)))
        } else {
            await import(/* webpackIgnore: true */ /* @vite-ignore */ address.href)
            glues.set(name, globalThis.KalmThreads)
        }
    }
    return glues.get(name)
}

/* ---- where models come from: { size or undefined, chunks } ---- */

async function openSource(source, signal) {
    if (source instanceof ArrayBuffer || (typeof SharedArrayBuffer === 'function' && source instanceof SharedArrayBuffer))
        source = new Uint8Array(source)
    if (ArrayBuffer.isView(source)) {
        const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
        return { size: bytes.length, chunks: pieces(bytes) }
    }
    if (typeof Blob === 'function' && source instanceof Blob) return { size: source.size, chunks: read(source.stream(), signal) }
    if (typeof source === 'string' || source instanceof URL) {
        const text = String(source)
        if (isNode && (text.startsWith('file:') || !/^[a-z][a-z0-9+.-]+:/i.test(text))) return openPath(text.startsWith('file:') ? new URL(text) : text)
        let answer
        try {
            answer = await fetch(source, { signal })
        } catch (cause) {
            throw signal?.aborted ? cancelled(signal) : new KalmError('CANNOT_READ', `${text}: cannot be reached`, cause)
        }
        source = answer
    }
    if (typeof Response === 'function' && source instanceof Response) {
        if (!source.ok) throw new KalmError('CANNOT_READ', `${source.url}: HTTP status ${source.status}`)
        /* Content-Length counts what was sent, which is less than the file where the server compressed it */
        const length = source.headers.get('content-encoding') ? null : source.headers.get('content-length')
        return { size: length ? Number(length) : undefined, chunks: read(source.body, signal) }
    }
    if (typeof source?.getReader === 'function') return { chunks: read(source, signal) }
    if (source?.[Symbol.asyncIterator]) return { chunks: source }
    throw new TypeError('Kalm.load: a model is a URL, File, Blob, Response, ReadableStream, ArrayBuffer or typed array')
}

async function* pieces(bytes) {
    for (let at = 0; at < bytes.length; at += 1 << 24) yield bytes.subarray(at, at + (1 << 24))
}

/* Not every browser can iterate over a stream yet. */
async function* read(stream, signal) {
    const reader = stream.getReader()
    try {
        for (;;) {
            const { done, value } = await reader.read().catch((cause) => {
                throw signal?.aborted ? cancelled(signal)
                    : new KalmError('CANNOT_READ', `the model broke off while it was read: ${cause.message}`, cause)
            })
            if (done) return
            yield value
        }
    } finally {
        await reader.cancel().catch(() => {})
    }
}

async function openPath(path) {
    const fs = await import('node:fs')
    try {
        const stat = await fs.promises.stat(path)
        return { size: stat.size, chunks: fs.createReadStream(path, { highWaterMark: 1 << 20 }) }
    } catch (cause) {
        throw new KalmError('CANNOT_READ', `"${path}": ${cause.code === 'ENOENT' ? 'no such file' : 'cannot be read'}`, cause)
    }
}

/* ---- cancelling and yielding ---- */

const cancelled = (signal) => new KalmError('CANCELLED', 'the work was cancelled', signal?.reason)

/* Let the event loop turn. Timers would wait 4 ms. */
const turn = typeof setImmediate === 'function' ? () => new Promise((resolve) => { setImmediate(resolve) })
    : () => new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = () => {
            port1.close()
            resolve()
        }
        port2.postMessage(0)
    })

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const PARSE_CONTROL = 2

export class Kalm {
    #wasm
    #host
    #build
    #open = false

    static async load(source, options = {}) {
        const kalm = new Kalm()
        kalm.#build = await chooseBuild(options)
        kalm.#host = { progress: null }
        try {
            kalm.#wasm = await instantiate(kalm.#build, options.wasm, kalm.#host)
        } catch (error) {              /* a dist/ that was built without it, or an engine that spoke its draft */
            if (kalm.#build.kind !== 'relaxed' || options.relaxed) throw error
            kalm.#build = build('simd', kalm.#build.threads)
            kalm.#wasm = await instantiate(kalm.#build, options.wasm, kalm.#host)
        }
        try {
            await kalm.#read(source, options)
        } catch (error) {
            kalm.#wasm.stop()
            kalm.#wasm = null
            throw error
        }
        return kalm
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

    #alloc(size) {
        const at = this.#wasm.exports.kalm_wasm_alloc(size) >>> 0
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
        const coded = texts.map((text) => text === undefined ? null : encoder.encode(text))
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
    }

    /* ---- loading ---- */

    async #read(source, options) {
        const { signal, onProgress } = options
        if (signal?.aborted) throw cancelled(signal)
        const { size: told, chunks } = await openSource(source, signal)
        let head = new Uint8Array(0), at = 0, size = told, filled = 0
        const put = (chunk) => {
            if (filled + chunk.length > size)
                throw new KalmError('BAD_FILE', `the model file says it has ${size} bytes, more than that came`)
            this.#bytes(at + filled, chunk.length).set(chunk)
            filled += chunk.length
        }
        for await (const part of chunks) {
            if (signal?.aborted) throw cancelled(signal)
            let chunk = part
            if (!at) {                 /* its first bytes tell whether to go on, and how much will come */
                const joined = new Uint8Array(head.length + chunk.length)
                joined.set(head)
                joined.set(chunk, head.length)
                head = joined
                if (head.length < HEADER_BYTES) continue
                const view = new DataView(head.buffer)
                if (SIGNATURE.some((byte, i) => head[i] !== byte) || view.getUint32(8, true) !== VERSION) break
                size ??= Number(view.getBigUint64(16, true))
                at = this.#reserve(size)
                chunk = head
            }
            put(chunk)
            onProgress?.({ loaded: filled, total: size })
        }
        if (!at) {                     /* too short, or not ours: the library says which */
            size = head.length
            at = this.#reserve(size)
            put(head)
        }
        if (signal?.aborted) throw cancelled(signal)
        const kernels = options.kernels ? this.#put((n) => this.#alloc(n), encoder.encode(options.kernels + '\0')) : 0
        this.#check(this.#wasm.exports.kalm_wasm_open(at, filled, this.#build.threads, options.maxDocTokens ?? 0,
            options.maxQueryTokens ?? 0, options.cacheBytes ?? 0, kernels))
        this.#release(kernels)
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
            this.#need()
            if (signal?.aborted) throw cancelled(signal)
            const count = Math.min(next, total - first)
            const began = performance.now()
            const report = (part) => onProgress?.({ part: (first + count * part) / total, done: first, total })
            const phase = (from, to) => {
                this.#host.progress = (done, of) => {
                    report(from + (to - from) * done / Math.max(of, 1))
                    return signal?.aborted ? 1 : 0
                }
            }
            phase(0, 1)
            try {
                work(first, count, phase)
            } catch (error) {          /* the library counts from the slice's first */
                if (error instanceof KalmError)
                    error.message = error.message.replace(/^document (\d+) /, (_, i) => `document ${first + Number(i)} `)
                throw error
            } finally {
                this.#host.progress = null
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
            this.#check(this.#wasm.exports.kalm_wasm_encode(list, texts.length, options.ratio ?? 0,
                options.bits ?? defaultBits, options.parseControl ? PARSE_CONTROL : 0, docs), options.signal)
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
        if (typeof query !== 'string') throw new TypeError('rerank: the query is a string')
        if (!Array.isArray(documents)) throw new TypeError('rerank: documents are an array of strings and Uint8Arrays')
        documents.forEach((d, i) => {
            if (typeof d !== 'string' && !(d instanceof Uint8Array))
                throw new TypeError(`rerank: document ${i} is neither a string nor a Uint8Array`)
        })
        const total = documents.length
        const scores = this.#alloc(16 * total)
        try {
            await this.#slices(total, options, (first, count, phase) => {
                this.#rerankSlice(query, documents.slice(first, first + count), options, scores + 16 * first, phase)
                const words = this.#words(scores + 16 * first, 4 * count)
                for (let i = 0; i < count; i++) words[4 * i] = first + i           /* of the whole array */
            })
            return this.#sorted(scores, total, options.topK ?? total)
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
        const words = this.#words(scores, 4 * total)
        const floats = new Float32Array(words.buffer, scores, 4 * total)
        const out = []
        for (let i = 0; i < 4 * Math.min(total, most); i += 4)
            out.push({ index: words[i], score: floats[i + 3], margin: floats[i + 2], cut: words[i + 1] !== 0 })
        return out
    }

    /* ---- the rest ---- */

    get info() {
        this.#need()
        const w = this.#words(this.#wasm.exports.kalm_wasm_info() >>> 0, 15).slice()
        const wide = (at) => BigInt(w[at]) | BigInt(w[at + 1]) << 32n
        return {
            name: this.#cText(w[0]), weights: this.#cText(w[1]), vocabulary: w[3], layers: w[4], width: w[5], maxTokens: w[6],
            hasTokenizer: w[7] !== 0, yesId: w[8] | 0, noId: w[9] | 0, bytes: Number(wide(10)),
            fingerprint: wide(12).toString(16).padStart(16, '0'), build: this.#build.name, kernels: this.#cText(w[2]),
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
        this.#wasm.exports.kalm_wasm_close()
        this.#wasm.stop()
        this.#wasm = null
    }
}

function checkTexts(texts) {
    if (!Array.isArray(texts)) throw new TypeError('encode: texts are a string or an array of strings')
    texts.forEach((text, i) => {
        if (typeof text !== 'string') throw new TypeError(`encode: text ${i} is not a string`)
    })
    return texts
}

export default Kalm
