/* worker.mjs - the same methods as Kalm, done in a Worker, so that a page never freezes. Options travel by message, so
   progress and cancelling do too; where memory can be shared a cancelled call stops within a layer, else at its next slice. */
import { KalmError, bodyOf, isNode, nodeFunctions, timeoutOf, within } from './kalm.mjs'

const FLAGS = 256                      /* calls in flight at once that can be cancelled at once */

/* A Worker in one form for browsers and Node. */
async function startWorker(url) {
    if (isNode) return (await nodeFunctions()).startWorker(url)
    const worker = new Worker(new URL('./worker-thread.mjs', import.meta.url), { type: 'module' })
    return {
        post: (message, transfer) => worker.postMessage(message, transfer),
        listen(hear, fail) {
            worker.onmessage = (event) => hear(event.data)
            worker.onmessageerror = () => fail(new Error('a message could not be read'))
            worker.onerror = (event) => {
                event.preventDefault?.()
                fail(new Error(event.message ?? ''))
            }
        },
        hold() {},
        end: () => worker.terminate()
    }
}

export class KalmWorker {
    #port
    #calls = new Map()
    #last = 0
    #flags
    #ready
    #broken = null                     /* why the Worker is gone, once it is: nothing that is sent to it would be answered */
    info

    static async load(source, options = {}) {
        const self = new KalmWorker()
        const timeout = timeoutOf(options)
        if (typeof Response === 'function' && source instanceof Response) source = bodyOf(source, source.url || 'the answer')
        const address = new URL('./worker-thread.mjs', import.meta.url)
        self.#port = await startWorker(address)
        /* The script of the Worker says that it is there, or the browser that it or a module of it is not. */
        const ready = new Promise((resolve, reject) => {
            self.#ready = resolve
            self.#port.listen((message) => self.#hear(message), (error) => {
                const words = error.message ? `: ${error.message}` : ''
                reject(new KalmError('CANNOT_READ', `${address.href}: the Worker cannot be started${words}`, error))
                self.#broken ??= new KalmError('CANNOT_READ', `the Worker broke off${words}`, error)
                self.#fail(self.#broken)
                self.#port?.end()
            })
        })
        ready.catch(() => {})
        try {
            self.#port.hold(true)
            await within(timeout, address.href, ready, options.signal)
            if (typeof SharedArrayBuffer === 'function' && globalThis.crossOriginIsolated !== false)
                self.#flags = new Int32Array(new SharedArrayBuffer(4 * FLAGS))
            const transfer = []
            if (typeof ReadableStream === 'function' && source instanceof ReadableStream) transfer.push(source)
            if (options.transfer) transfer.push(source.buffer ?? source)
            if (!isNode && typeof source === 'string') source = new URL(source, globalThis.location?.href).href
            if (source instanceof URL) source = source.href
            const { transfer: _, ...rest } = options
            for (const name of ['wasm', 'assets'])         /* the Worker has another address, to which they are not relative */
                if (rest[name] instanceof URL || (!isNode && typeof rest[name] === 'string'))
                    rest[name] = new URL(rest[name], globalThis.location?.href).href
            self.info = await self.#call('load', [source], rest, transfer, self.#flags)
        } catch (error) {
            self.#port.end()
            self.#port = null
            throw error
        }
        return self
    }

    tokenize(text, options) { return this.#call('tokenize', [text], options) }
    detokenize(tokens) { return this.#call('detokenize', [tokens]) }
    encode(texts, options) { return this.#call('encode', [texts], options) }
    rerank(query, documents, options) { return this.#call('rerank', [query, documents], options) }
    docInfo(bytes) { return this.#call('docInfo', [bytes]) }
    repool(bytes, ratio, bits) { return this.#call('repool', [bytes, ratio, bits]) }
    verify() { return this.#call('verify', []) }

    free() {
        this.#port?.end()
        this.#port = null
        this.#fail(new KalmError('BAD_ARGUMENT', 'this Kalm was freed'))
    }

    #call(method, args, options = {}, transfer = [], extra = undefined) {
        const { signal, onProgress, ...rest } = options
        if (!this.#port) return Promise.reject(new KalmError('BAD_ARGUMENT', 'this Kalm was freed'))
        if (this.#broken) return Promise.reject(this.#broken)
        if (signal?.aborted) return Promise.reject(new KalmError('CANCELLED', 'the work was cancelled', signal.reason))
        const id = ++this.#last
        return new Promise((resolve, reject) => {
            const abort = () => {
                if (this.#flags) Atomics.store(this.#flags, id % FLAGS, id)
                this.#port?.post({ id, cancel: true })
            }
            signal?.addEventListener('abort', abort)
            this.#calls.set(id, { resolve, reject, onProgress, abort, done: () => signal?.removeEventListener('abort', abort), signal })
            this.#port.hold(true)
            try {
                this.#port.post({ id, method, args, options: rest, progress: !!onProgress, extra }, transfer)
            } catch (error) {          /* what cannot be cloned */
                this.#settle(id, (call) => call.reject(error))
            }
        })
    }

    #settle(id, how) {
        const call = this.#calls.get(id)
        if (!call) return
        this.#calls.delete(id)
        call.done()
        if (!this.#calls.size) this.#port?.hold(false)
        how(call)
    }

    #hear({ id, ready, progress, error, result }) {
        if (ready) return this.#ready()
        if (progress) return this.#progress(id, progress)
        this.#settle(id, (call) => {
            if (!error) return call.resolve(result)
            if (!error.code) return call.reject(new (error.name === 'TypeError' ? TypeError : Error)(error.message))
            call.reject(new KalmError(error.code, error.message, error.code === 'CANCELLED' ? call.signal?.reason : undefined))
        })
    }

    /* What the caller's function throws ends its call, as it does without a Worker. */
    #progress(id, state) {
        const call = this.#calls.get(id)
        try {
            call?.onProgress?.(state)
        } catch (error) {
            call.abort()
            this.#settle(id, () => call.reject(error))
        }
    }

    #fail(error) {
        for (const id of [...this.#calls.keys()]) this.#settle(id, (call) => call.reject(error))
    }
}

export default KalmWorker
