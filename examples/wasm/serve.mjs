/* serve.mjs - a static server for this folder on the loopback address: node serve.mjs [port]. It sends the two headers that
   give a page shared memory, hence threads; any other static server does too, with one thread where it does not. */
import { createServer } from 'node:http'
import { createReadStream, promises as fs } from 'node:fs'
import { extname, join, normalize, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const TYPES = {
    '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
    '.mjs': 'text/javascript; charset=utf-8', '.wasm': 'application/wasm', '.png': 'image/png', '.svg': 'image/svg+xml',
    '.json': 'application/json', '.txt': 'text/plain; charset=utf-8'
}

/* isolated: send the headers. Resolves to the server, which listens. */
export function serve({ port = 0, root = fileURLToPath(new URL('.', import.meta.url)), isolated = true } = {}) {
    const server = createServer(async (request, answer) => {
        const fail = (status) => answer.writeHead(status, { 'content-type': 'text/plain' }).end(`${status}\n`)
        try {
            const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname)
            const file = normalize(join(root, path.endsWith('/') ? `${path}index.html` : path))
            if (!file.startsWith(root.endsWith(sep) ? root : root + sep)) return fail(403)
            if (request.method !== 'GET' && request.method !== 'HEAD') return fail(405)
            const stat = await fs.stat(file)
            if (!stat.isFile()) return fail(404)
            const headers = {
                'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-length': stat.size,
                'cache-control': 'no-cache', 'cross-origin-resource-policy': 'same-origin'
            }
            if (isolated) {
                headers['cross-origin-opener-policy'] = 'same-origin'
                headers['cross-origin-embedder-policy'] = 'require-corp'
            }
            answer.writeHead(200, headers)
            if (request.method === 'HEAD') answer.end()
            else createReadStream(file).on('error', () => answer.destroy()).pipe(answer)
        } catch {
            fail(404)
        }
    })
    return new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, '127.0.0.1', () => resolve(server))
    })
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
    const server = await serve({ port: Number(process.argv[2] ?? 8080) })
    console.log(`http://127.0.0.1:${server.address().port}/`)
}
