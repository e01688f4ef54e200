/* service.js - the service worker of the page: it works offline after the first visit. Files come from the network, so that a new
   version is seen at once, and from the cache where there is none. The page says which files it uses (page.mjs); models that
   were opened by address are the page's own affair (keep.mjs). */
const SHELL = 'kalm-shell-1'

self.addEventListener('install', () => self.skipWaiting())
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()))

/* The page's files, { files: [address] }: those that are not there yet. Answers when they are. */
self.addEventListener('message', (event) => {
    if (!Array.isArray(event.data?.files)) return
    event.waitUntil((async () => {
        const cache = await caches.open(SHELL)
        await Promise.all(event.data.files.map(async (file) => {
            const url = new URL(file, self.registration.scope).href
            if (await cache.match(url)) return
            const answer = await fetch(url)
            if (answer.ok) await cache.put(url, answer)
        }))
        event.source?.postMessage({ offline: true })
    })())
})

self.addEventListener('fetch', (event) => {
    const { request } = event
    const url = new URL(request.url)
    if (request.method !== 'GET' || url.origin !== self.location.origin || request.headers.has('range')) return
    event.respondWith((async () => {
        const cache = await caches.open(SHELL)
        const key = url.pathname.endsWith('/') || request.mode === 'navigate' ? new URL('./', self.registration.scope).href : url.href
        try {
            const answer = await fetch(request)
            if (answer.ok && await cache.match(key)) {     /* a newer one of what is kept */
                const copy = answer.clone()
                event.waitUntil(cache.put(key, copy).catch(() => {}))
            }
            return answer
        } catch (error) {
            const kept = await cache.match(key)
            if (kept) return kept
            throw error
        }
    })())
})
