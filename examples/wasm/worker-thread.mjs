/* worker-thread.mjs - the other side of worker.mjs: runs in the Worker, holds the Kalm, answers messages. */
import { Kalm, isNode, nodeFunctions } from './kalm.mjs'

let port = null
let kalm = null
let flags = null                       /* shared with the page: flags[id % length] === id says that call id is cancelled */
const cancelled = new Set()

const methods = {
    async load([source], options, extra) {
        flags = extra ?? null
        kalm = await Kalm.load(source, options)
        return kalm.info
    },
    tokenize: ([text], options) => kalm.tokenize(text, options),
    detokenize: ([tokens]) => kalm.detokenize(tokens),
    encode: ([texts], options) => kalm.encode(texts, options),
    rerank: ([query, documents], options) => kalm.rerank(query, documents, options),
    docInfo: ([bytes]) => kalm.docInfo(bytes),
    repool: ([bytes, ratio, bits]) => kalm.repool(bytes, ratio, bits),
    verify: () => kalm.verify()
}

/* What Kalm looks at of an AbortSignal; fetch wants a real one, so loading gets that. */
const signalOf = (id) => ({
    get aborted() { return cancelled.has(id) || (flags !== null && Atomics.load(flags, id % flags.length) === id) }
})

const buffersOf = (result) => result instanceof Uint8Array ? [result.buffer]
    : Array.isArray(result) && result[0] instanceof Uint8Array ? result.map((bytes) => bytes.buffer) : []

const loading = new Map()              /* id -> AbortController */

async function hear({ id, cancel, method, args, options, progress, extra }) {
    if (cancel) {
        cancelled.add(id)
        loading.get(id)?.abort()
        return
    }
    let shown = 0
    if (progress) options.onProgress = (state) => {        /* a page has no use for more than 30 a second */
        const now = performance.now()
        if (now - shown < 33 && state.part !== 1 && state.loaded !== state.total) return
        shown = now
        port.postMessage({ id, progress: state })
    }
    if (method === 'load') {
        loading.set(id, new AbortController())
        options.signal = loading.get(id).signal
    } else {
        options.signal = signalOf(id)
    }
    try {
        const result = await methods[method](args, options, extra)
        port.postMessage({ id, result }, buffersOf(result))
    } catch (error) {
        port.postMessage({ id, error: { name: error.name, code: error.code, message: error.message } })
    }
    cancelled.delete(id)
    loading.delete(id)
}

if (isNode) {
    nodeFunctions().then(({ parentPort }) => {
        port = parentPort
        port.on('message', hear)
        port.postMessage({ ready: true })
    })
} else {
    port = globalThis
    port.onmessage = (event) => hear(event.data)
    port.postMessage({ ready: true })
}
