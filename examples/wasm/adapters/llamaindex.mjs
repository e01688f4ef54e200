/* llamaindex.mjs - a Kalm as a node postprocessor of LlamaIndex.TS:

     import { Kalm } from 'kalm-rerank'
     import { KalmPostprocessor } from 'kalm-rerank/llamaindex'
     const reranker = new KalmPostprocessor({ kalm: await Kalm.load('nano.kalm'), topN: 5 })
     const engine = index.asQueryEngine({ nodePostprocessors: [reranker] })

   Nodes come back best first, with the model's score in place of the retriever's. */

/* The words of a query: a text, or a list of parts as chat models take them, of which pictures say nothing here. */
function textOf(query) {
    if (typeof query === 'string') return query
    if (Array.isArray(query)) return query.filter(({ type }) => type === 'text').map(({ text }) => text).join('\n')
    throw new TypeError('KalmPostprocessor: nodes are ranked by a query, and there is none')
}

export class KalmPostprocessor {
    /* topN: how many to keep, default all; metadataMode: which metadata the model reads with a node's text, 'NONE', 'EMBED' (default),
       'LLM' or 'ALL'; the rest is what Kalm.rerank takes */
    constructor({ kalm, topN, metadataMode = 'EMBED', ...options }) {
        if (typeof kalm?.rerank !== 'function') throw new TypeError('KalmPostprocessor: kalm is a Kalm or a KalmWorker')
        this.kalm = kalm
        this.topN = topN
        this.metadataMode = metadataMode
        this.options = options
    }

    async postprocessNodes(nodes, query) {
        if (!nodes.length) return []
        const texts = nodes.map(({ node }) => node.getContent(this.metadataMode))
        const ranked = await this.kalm.rerank(textOf(query), texts, { ...this.options, topK: this.topN })
        return ranked.map(({ index, score }) => ({ ...nodes[index], score }))
    }
}

export default KalmPostprocessor
