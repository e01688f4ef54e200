/* llamaindex.d.mts - what llamaindex.mjs promises. */
import type { MessageContent } from '@llamaindex/core/llms'
import type { BaseNodePostprocessor } from '@llamaindex/core/postprocessor'
import type { NodeWithScore } from '@llamaindex/core/schema'
import type { Kalm, RerankOptions } from '../kalm.mjs'
import type { KalmWorker } from '../worker.mjs'

export interface KalmPostprocessorOptions extends Pick<RerankOptions, 'instruction' | 'system' | 'ratio' | 'bits' | 'parseControl' | 'signal'> {
    kalm: Kalm | KalmWorker
    /** How many nodes to keep; default all. */
    topN?: number
    /** Which metadata the model reads with a node's text; default "EMBED". */
    metadataMode?: 'NONE' | 'EMBED' | 'LLM' | 'ALL'
}

/** Nodes come back best first, with the model's score, which is from 0 to 1. */
export class KalmPostprocessor implements BaseNodePostprocessor {
    constructor(options: KalmPostprocessorOptions)
    topN: number | undefined
    postprocessNodes(nodes: NodeWithScore[], query?: MessageContent): Promise<NodeWithScore[]>
}
export default KalmPostprocessor
