/* node.mjs - what kalm.mjs, worker.mjs and worker-thread.mjs need of Node: files, cores, scripts, Workers. Browsers and their
   bundlers never load it; Node does, by its path or through kalm.node.mjs. */
import { promises as fs, createReadStream } from 'node:fs'
import { createRequire } from 'node:module'
import * as os from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Worker, parentPort } from 'node:worker_threads'

export { nativeLoad } from './native.mjs'
export { parentPort }

export const cores = () => typeof os.availableParallelism === 'function' ? os.availableParallelism() : os.cpus().length

export const readFile = (url) => fs.readFile(url)

/* The size of a plain file; undefined for what is none, such as a pipe. */
export async function sizeOf(path) {
    const stat = await fs.stat(path)
    if (stat.isDirectory()) throw Object.assign(new Error('it is a folder'), { code: 'EISDIR' })
    return stat.isFile() ? stat.size : undefined
}

/* { size, chunks } of the file at a path or file: URL; the size of what is no plain file is not known. */
export async function openPath(path) {
    const size = await sizeOf(path)
    return { size, chunks: createReadStream(path, { highWaterMark: 1 << 20 }) }
}

/* A script of Emscripten's, run as CommonJS: what it exports. */
export const requireScript = (url) => createRequire(import.meta.url)(fileURLToPath(url))
export const pathOf = (url) => fileURLToPath(url)
export const baseURL = () => pathToFileURL(`${process.cwd()}/`).href

/* A Worker in the form that worker.mjs wants. */
export function startWorker(url) {
    const worker = new Worker(url)
    worker.unref()
    return {
        post: (message, transfer) => worker.postMessage(message, transfer),
        listen(hear, fail) {
            worker.on('message', hear)
            worker.on('error', fail)
            worker.on('exit', () => fail(new Error('the worker ended')))
        },
        hold: (busy) => busy ? worker.ref() : worker.unref(),        /* a program waits for calls, not for workers */
        end: () => worker.terminate()
    }
}
