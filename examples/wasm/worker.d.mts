/* worker.d.mts - what worker.mjs promises: Kalm's methods, done in a Worker, all of them asynchronous. */
import type {
    DocInfo, EncodeOptions, KalmInfo, KalmSource, LoadOptions, Ranked, RerankOptions
} from './kalm.mjs'

export class KalmWorker {
    private constructor()
    /** transfer: the ArrayBuffer is moved, not copied, to the Worker. */
    static load(source: KalmSource, options?: LoadOptions & { transfer?: boolean }): Promise<KalmWorker>
    /** As it was when the model had been loaded. */
    readonly info: KalmInfo
    tokenize(text: string, options?: { parseControl?: boolean }): Promise<Int32Array>
    detokenize(tokens: ArrayLike<number>): Promise<string>
    encode(text: string, options?: EncodeOptions): Promise<Uint8Array>
    encode(texts: readonly string[], options?: EncodeOptions): Promise<Uint8Array[]>
    rerank(query: string, documents: readonly (string | Uint8Array)[], options?: RerankOptions): Promise<Ranked[]>
    docInfo(document: Uint8Array): Promise<DocInfo>
    repool(document: Uint8Array, ratio: number, bits?: 32 | 16 | 8 | 4 | 3 | 2 | 0): Promise<Uint8Array>
    verify(): Promise<void>
    /** Ends the Worker, whatever it is doing; calls in flight are rejected. */
    free(): void
}

export default KalmWorker
