/* kalm.cjs - require('kalm-rerank') in a version of Node that cannot require ES modules (before 20.19 and 22.12): Kalm.load loads
   kalm.node.mjs first. Newer ones get that module itself. */
'use strict'

const isOurs = (error) => error instanceof Error && typeof error.code === 'string' && (error.name === 'KalmError'
    || (error.name === 'AbortError' && error.code === 'CANCELLED'))

class Kalm {
    constructor() { throw new TypeError('Kalm.load makes one') }
    static async load(source, options) { return (await import('./kalm.node.mjs')).Kalm.load(source, options) }
    static [Symbol.hasInstance](value) { return typeof value?.rerank === 'function' && typeof value.detokenize === 'function' }
}

class KalmError extends Error {
    constructor(code, message, cause) {
        super(message, cause === undefined ? undefined : { cause })
        this.name = code === 'CANCELLED' ? 'AbortError' : 'KalmError'
        this.code = code
    }
    static [Symbol.hasInstance](error) { return isOurs(error) }
}

const features = () => {
    throw new Error("features() needs import('kalm-rerank'), or a Node that can require ES modules (20.19, 22.12 or later)")
}

module.exports = { Kalm, default: Kalm, KalmError, features }
