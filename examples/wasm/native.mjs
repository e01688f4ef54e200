/* native.mjs - Kalm in native code, in Node: the methods of kalm.mjs over the addon of kalm_node.c. node.mjs gives it to kalm.mjs,
   which takes it where prebuilds/ has an addon for this machine.

   A call is cut into slices of up to SLICE documents, each a job of the addon with a thread of its own; the jobs of one Kalm run one
   after the other, and calls that are made at the same time take turns. The event loop only copies texts, documents and results,
   and no more than TURN_BYTES of them in one of its turns, so that it is never busy for more than a few milliseconds. */
import { promises as fs, closeSync, openSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import {
    Kalm, KalmError, PARSE_CONTROL, cancelled, checkRerank, checkText, checkTexts, checkTokens, countFrom, decoder, encoder, number,
    rankedOf, receive, string, turn
} from './kalm.mjs'

const SLICE = 64                       /* as many documents as the library encodes together */
const TURN_BYTES = 2 << 20             /* or one document, where that is larger */

/* ---- the addon ---- */

/* Where programs of the machine's own C library find its loader: what this node was linked with. */
function linuxLibrary() {
    const head = Buffer.alloc(4096)
    const file = openSync(process.execPath)
    try {
        readSync(file, head, 0, head.length, 0)
    } finally {
        closeSync(file)
    }
    return head.includes('/ld-musl-') ? 'musl' : 'glibc'
}

let addon                              /* { functions } or { why }: looked for once */

function findAddon() {
    const { platform, arch } = process
    let name = `${platform}-${arch}`
    try {
        const library = platform === 'linux' ? `.${linuxLibrary()}` : ''
        name += library.replace('.', ' with ')
        const file = fileURLToPath(new URL(`./prebuilds/${platform}-${arch}/kalm-rerank${library}.node`, import.meta.url))
        return { functions: createRequire(import.meta.url)(file) }
    } catch (error) {
        const why = error.code === 'MODULE_NOT_FOUND' ? 'the package has none' : error.message
        return { why: `no native addon for ${name}: ${why}`, error }
    }
}

/* The function that loads a model natively. Without an addon null, or an error for who insists. */
export function nativeLoad(insist) {
    addon ??= findAddon()
    if (addon.functions) return (source, options) => NativeKalm.open(addon.functions, source, options)
    if (insist) throw new KalmError('NO_KERNELS', addon.why, addon.error)
    return null
}

/* What the addon throws, as a KalmError: its other errors are TypeErrors. */
function guarded(work) {
    try {
        return work()
    } catch (error) {
        throw typeof error?.code === 'string' ? new KalmError(error.code, error.message) : error
    }
}

const isPath = (source) => source instanceof URL ? source.protocol === 'file:'
    : typeof source === 'string' && (source.startsWith('file:') || !/^[a-z][a-z0-9+.-]+:/i.test(source))

/* The path of a plain file, which can be mapped, and its size; null: something else, to be read as a stream. */
async function plainFile(source) {
    if (!isPath(source)) return null
    const text = String(source)
    try {
        const path = text.startsWith('file:') ? fileURLToPath(text) : text
        const stat = await fs.stat(path)
        if (stat.isDirectory()) throw Object.assign(new Error('it is a folder'), { code: 'EISDIR' })
        return stat.isFile() ? { path, size: stat.size } : null
    } catch (cause) {
        throw new KalmError('CANNOT_READ', `"${text}": ${cause.code === 'ENOENT' ? 'no such file' : 'cannot be read'}`, cause)
    }
}

const freed = () => new KalmError('BAD_ARGUMENT', 'this Kalm was freed')
/* Whether anybody looks at a call while it is under way: at its progress, or at a signal that has no events (worker-thread.mjs). */
const watched = ({ onProgress, signal }) => !!onProgress || (!!signal && typeof signal.addEventListener !== 'function')
const flagsOf = (options) => options.parseControl ? PARSE_CONTROL : 0
/* Bytes that no other thread changes while they are copied. */
const own = (bytes) => bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice()

class NativeKalm extends Kalm {
    #functions
    #handle
    #open = false
    #calls = new Set()                 /* functions that end the calls that are under way */
    #last = Promise.resolve()          /* settled when the last job that was asked for has ended */

    static async open(functions, source, options) {
        const kalm = new NativeKalm()
        const limits = [number('threads', options.threads, 256), number('maxDocTokens', options.maxDocTokens),
            number('maxQueryTokens', options.maxQueryTokens), number('cacheBytes', options.cacheBytes),
            number('stateBits', options.stateBits)]
        const kernels = string('kernels', options.kernels)
        const { signal, onProgress } = options
        if (signal?.aborted) throw cancelled(signal)
        kalm.#functions = functions
        kalm.#handle = guarded(() => functions.create())
        try {
            const file = await plainFile(source)
            const size = file ? 0 : await kalm.#receive(source, options)
            kalm.#open = true
            await kalm.#call(1, () => 0, { signal }, (first, count, callback) => functions.open(kalm.#handle,
                file ? encoder.encode(file.path) : null, size, limits, kernels === undefined ? null : encoder.encode(kernels),
                options.mmap === false, !!options.verify, callback), () => {})
            if (file) onProgress?.({ loaded: file.size, total: file.size })
        } catch (error) {
            kalm.free()
            functions.close(kalm.#handle)
            throw error
        }
        return kalm
    }

    async #receive(source, options) {
        const { filled } = await receive(source, options, (size) => {
            guarded(() => this.#functions.reserve(this.#handle, size))
            return 0
        }, (place, chunk) => guarded(() => this.#functions.write(this.#handle, place, own(chunk))))
        return filled
    }

    #need() {
        if (!this.#open) throw freed()
    }

    /* ---- calls ---- */

    /* When the jobs that were asked for before have ended: a function to be called when this one has. */
    async #turn() {
        const before = this.#last
        let done
        this.#last = new Promise((resolve) => { done = resolve })
        await before
        return done
    }

    /* A call over 0..total, of which number i has sizeOf(i) bytes: start(first, count, callback) begins the job of a slice,
       take(value, first, isOver) gets its result, and may take turns for that while the call is not over. The promise is settled at
       once when the call is cancelled or the Kalm freed; the thread ends a moment later. */
    #call(total, sizeOf, { signal, onProgress }, start, take) {
        return new Promise((resolve, reject) => {
            let ended = false, working = false
            const end = (settle, value) => {
                if (ended) return
                ended = true
                this.#calls.delete(stop)
                signal?.removeEventListener?.('abort', abort)
                if (working) this.#functions.cancel(this.#handle)
                settle(value)
            }
            const stop = (error) => end(reject, error)
            const abort = () => stop(cancelled(signal))
            const report = (part, done) => {
                if (ended) return
                try {
                    if (signal?.aborted) return abort()
                    onProgress?.({ part, done, total })
                    if (signal?.aborted) abort()       /* one that only looks like an AbortSignal */
                } catch (error) {      /* of either: the addon calls this, and what it throws would end the program */
                    stop(error)
                }
            }
            /* The result of the slice, or an exception. */
            const job = (first, count) => new Promise((give, refuse) => {
                working = true
                guarded(() => start(first, count, (code, message, value) => {
                    if (typeof code === 'number') return report((first + count * code) / total, first)
                    working = false
                    if (code) refuse(new KalmError(code, countFrom(first, message)))
                    else give(value)
                }))
            }).finally(() => { working = false })
            const sliceAt = (first) => {
                let count = 1, bytes = sizeOf(first)
                while (count < SLICE && first + count < total && (bytes += sizeOf(first + count)) <= TURN_BYTES) count++
                return count
            }
            const work = async () => {
                for (let first = 0; first < total && !ended;) {
                    const count = sliceAt(first), done = await this.#turn()
                    try {
                        if (!ended) await take(await job(first, count), first, () => ended)
                    } finally {
                        done()
                    }
                    first += count
                }
                report(1, total)
                end(resolve)
            }
            this.#calls.add(stop)
            signal?.addEventListener?.('abort', abort)
            if (signal?.aborted) return abort()
            work().catch(stop)
        })
    }

    /* ---- tokens ---- */

    tokenize(text, options = {}) {
        this.#need()
        checkText(text)
        return guarded(() => this.#functions.tokenize(this.#handle, encoder.encode(text), flagsOf(options)))
    }

    detokenize(tokens) {
        this.#need()
        checkTokens(tokens)
        return decoder.decode(guarded(() => this.#functions.detokenize(this.#handle, Int32Array.from(tokens))))
    }

    /* ---- documents ---- */

    async encode(texts, options = {}) {
        this.#need()
        const single = typeof texts === 'string'
        const list = single ? [texts] : [...checkTexts(texts)]
        const ratio = number('ratio', options.ratio), bits = number('bits', options.bits), flags = flagsOf(options)
        const out = []
        await this.#call(list.length, (i) => list[i].length, options, (first, count, callback) => this.#functions.encode(this.#handle,
            list.slice(first, first + count).map((text) => encoder.encode(text)), ratio, bits, flags, watched(options), callback),
        async (count, first, isOver) => {
            let bytes = 0
            for (let i = 0; i < count && !isOver(); i++) {
                if (bytes > TURN_BYTES) {
                    bytes = 0
                    await turn()
                    if (isOver()) return
                }
                const one = guarded(() => this.#functions.take(this.#handle, i))
                bytes += one.length
                out.push(one)
            }
        })
        return single ? out[0] : out
    }

    docInfo(bytes) {
        this.#need()
        return guarded(() => this.#functions.docInfo(this.#handle, document(bytes)))
    }

    repool(bytes, ratio, bits = 0) {
        this.#need()
        return guarded(() => this.#functions.repool(this.#handle, document(bytes), number('ratio', ratio), number('bits', bits)))
    }

    /* ---- reranking ---- */

    async rerank(query, documents, options = {}) {
        this.#need()
        const most = checkRerank(query, documents, options)
        const list = [...documents]
        const words = [query, options.system ?? null, options.instruction ?? null].map((text) => text === null ? null : encoder.encode(text))
        const ratio = number('ratio', options.ratio), bits = number('bits', options.bits), flags = flagsOf(options)
        const out = []
        await this.#call(list.length, (i) => list[i].length, options, (first, count, callback) => {
            const slice = list.slice(first, first + count)
            this.#functions.rerank(this.#handle, words, slice.map((d) => typeof d === 'string' ? encoder.encode(d) : own(d)),
                Uint8Array.from(slice, (d) => typeof d === 'string' ? 1 : 0), ratio, bits, flags, watched(options), callback)
        }, (bytes, first) => {
            for (const one of rankedOf(bytes.buffer, 0, bytes.length / 16)) out.push({ ...one, index: first + one.index })
        })
        return out.sort((a, b) => b.margin - a.margin || a.index - b.index).slice(0, most)     /* as kalm_sort */
    }

    /* ---- the rest ---- */

    get info() {
        this.#need()
        return guarded(() => this.#functions.info(this.#handle))
    }

    verify() {
        this.#need()
        guarded(() => this.#functions.verify(this.#handle))
    }

    /* Twice is fine. Calls that are under way are refused at once; memory goes when their thread has ended. */
    free() {
        if (!this.#open) return
        this.#open = false
        for (const stop of [...this.#calls]) stop(freed())
        this.#functions.close(this.#handle)
    }
}

function document(bytes) {
    if (!(bytes instanceof Uint8Array)) throw new TypeError('a document is a Uint8Array')
    return own(bytes)
}
