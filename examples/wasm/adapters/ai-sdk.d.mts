/* ai-sdk.d.mts - what ai-sdk.mjs promises. */
import type { RerankingModelV3 } from '@ai-sdk/provider'
import type { Kalm, RerankOptions } from '../kalm.mjs'
import type { KalmWorker } from '../worker.mjs'

export interface RerankingModelOptions extends Pick<RerankOptions, 'instruction' | 'system' | 'ratio' | 'bits' | 'parseControl'> {
    /** Default: the name in the model file. */
    modelId?: string
    /** The words of a document that is an object; default: its JSON. */
    text?: (document: any) => string
}

/** A Kalm as a reranking model of the AI SDK, for `rerank({ model, ... })`. */
export function rerankingModel(kalm: Kalm | KalmWorker, options?: RerankingModelOptions): RerankingModelV3
export default rerankingModel
