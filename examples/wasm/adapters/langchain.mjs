/* langchain.mjs - a Kalm as a document compressor of LangChain, for ContextualCompressionRetriever and wherever else one goes:

     import { ContextualCompressionRetriever } from '@langchain/classic/retrievers/contextual_compression'
     import { Kalm } from 'kalm-rerank'
     import { KalmCompressor } from 'kalm-rerank/langchain'
     const baseCompressor = new KalmCompressor({ kalm: await Kalm.load('nano.kalm'), topN: 5 })
     const retriever = new ContextualCompressionRetriever({ baseCompressor, baseRetriever })

   Documents come back best first, as copies with metadata.relevanceScore, as LangChain's other rerankers call it. */
import { Document } from '@langchain/core/documents'
import { BaseDocumentCompressor } from '@langchain/core/retrievers/document_compressors'

export class KalmCompressor extends BaseDocumentCompressor {
    /* topN: how many to keep, default all; minScore: leave out what is below; the rest is what Kalm.rerank takes */
    constructor({ kalm, topN, minScore = 0, ...options }) {
        super()
        if (typeof kalm?.rerank !== 'function') throw new TypeError('KalmCompressor: kalm is a Kalm or a KalmWorker')
        this.kalm = kalm
        this.topN = topN
        this.minScore = minScore
        this.options = options
    }

    async compressDocuments(documents, query, _callbacks) {
        const ranked = await this.kalm.rerank(query, documents.map(({ pageContent }) => pageContent), { ...this.options, topK: this.topN })
        return ranked.filter(({ score }) => score >= this.minScore).map(({ index, score }) => {
            const { pageContent, metadata, id } = documents[index]
            return new Document({ pageContent, metadata: { ...metadata, relevanceScore: score }, id })
        })
    }
}

export default KalmCompressor
