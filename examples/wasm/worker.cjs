/* worker.cjs - require('kalm-rerank/worker') in a version of Node that cannot require ES modules, see kalm.cjs. */
'use strict'

class KalmWorker {
    constructor() { throw new TypeError('KalmWorker.load makes one') }
    static async load(source, options) { return (await import('./worker.node.mjs')).KalmWorker.load(source, options) }
}

module.exports = { KalmWorker, default: KalmWorker }
