/* langchain.d.mts - what langchain.mjs promises. */
import type { Callbacks } from '@langchain/core/callbacks/manager'
import type { DocumentInterface } from '@langchain/core/documents'
import { BaseDocumentCompressor } from '@langchain/core/retrievers/document_compressors'
import type { Kalm, RerankOptions } from '../kalm.mjs'
import type { KalmWorker } from '../worker.mjs'

export interface KalmCompressorOptions extends Pick<RerankOptions, 'instruction' | 'system' | 'ratio' | 'bits' | 'parseControl' | 'signal'> {
    kalm: Kalm | KalmWorker
    /** How many documents to keep; default all. */
    topN?: number
    /** Documents whose score is below are left out; default 0. */
    minScore?: number
}

/** Documents come back best first, with metadata.relevanceScore, which is from 0 to 1. */
export class KalmCompressor extends BaseDocumentCompressor {
    constructor(options: KalmCompressorOptions)
    topN: number | undefined
    minScore: number
    compressDocuments(documents: DocumentInterface[], query: string, callbacks?: Callbacks): Promise<DocumentInterface[]>
}
export default KalmCompressor
