/* keep.mjs - what the page keeps between visits: models in Cache Storage under their addresses, encoded documents in IndexedDB. A
   browser may refuse either, or take them away: then nothing is kept, and all else works. */

const MODELS = 'kalm-models-1'
const DATABASE = 'kalm-documents', TABLE = 'documents', BATCH = 200

/* ---- models ---- */

const cache = async () => {
    try {
        return typeof caches === 'object' ? await caches.open(MODELS) : null
    } catch {
        return null
    }
}

/* The kept model of an address, as a Blob, or null. */
export async function keptModel(url) {
    const answer = await (await cache())?.match(url)
    return answer ? answer.blob() : null
}

/* Keep what `stream` yields under `url`; resolves to whether it was kept. What broke off is never kept. */
export async function keepModel(url, stream) {
    const store = await cache()
    try {
        if (!store) throw new Error('no Cache Storage')
        await navigator.storage?.persist?.()
        await store.put(url, new Response(stream, { headers: { 'content-type': 'application/octet-stream' } }))
        return true
    } catch {
        stream.cancel?.().catch(() => {})
        return false
    }
}

export const forgetModel = async (url) => { await (await cache())?.delete(url) }

/* [{ url, bytes }] */
export async function keptModels() {
    const store = await cache()
    const all = []
    for (const request of await store?.keys() ?? []) {
        const answer = await store.match(request)
        all.push({ url: request.url, bytes: answer ? (await answer.blob()).size : 0 })
    }
    return all
}

/* ---- documents ---- */

const promised = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
})
const finished = (transaction) => new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve()
    transaction.onerror = transaction.onabort = () => reject(transaction.error)
})

let opened
async function database() {
    opened ??= (async () => {
        const request = indexedDB.open(DATABASE, 1)
        request.onupgradeneeded = () => request.result.createObjectStore(TABLE)
        return promised(request)
    })().catch(() => null)
    return opened
}

/* The key of a text's document: the model and its vocabulary, the ratio, and the text itself by its hash. */
async function keyOf(model, ratio, text) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))
    return `${model} ${ratio} ${[...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`
}

/* text -> its kept document, for those of `texts` that have one. */
export async function keptDocuments(model, ratio, texts) {
    const found = new Map()
    try {
        const db = await database()
        if (!db) return found
        for (let at = 0; at < texts.length; at += BATCH) {
            const some = texts.slice(at, at + BATCH)
            const keys = await Promise.all(some.map((text) => keyOf(model, ratio, text)))
            const table = db.transaction(TABLE).objectStore(TABLE)
            const values = await Promise.all(keys.map((key) => promised(table.get(key))))
            values.forEach((value, i) => { if (value instanceof Uint8Array) found.set(some[i], value) })
        }
    } catch { /* refused, or no secure address: nothing is kept */ }
    return found
}

export async function keepDocuments(model, ratio, texts, documents) {
    try {
        const db = await database()
        if (!db) return
        const keys = await Promise.all(texts.map((text) => keyOf(model, ratio, text)))
        const transaction = db.transaction(TABLE, 'readwrite')
        const done = finished(transaction)
        keys.forEach((key, i) => transaction.objectStore(TABLE).put(documents[i], key))
        await done
    } catch { /* likewise, or no room */ }
}

/* { count, bytes } */
export async function keptDocumentsSize() {
    let count = 0, bytes = 0
    try {
        const db = await database()
        if (!db) return { count, bytes }
        const request = db.transaction(TABLE).objectStore(TABLE).openCursor()
        await new Promise((resolve, reject) => {
            request.onerror = () => reject(request.error)
            request.onsuccess = () => {
                const at = request.result
                if (!at) return resolve()
                count++
                bytes += at.value.length
                at.continue()
            }
        })
    } catch { /* as above */ }
    return { count, bytes }
}

/* Forget everything that was kept. */
export async function clearAll() {
    try {
        await caches.delete(MODELS)
    } catch { /* there was nothing */ }
    try {
        const db = await database()
        const transaction = db.transaction(TABLE, 'readwrite')
        const done = finished(transaction)
        transaction.objectStore(TABLE).clear()
        await done
    } catch { /* likewise */ }
}
