/* The adapters with the packages that they are for (npm ci here first): the packed package is installed beside them, ranks through each,
   and its types hold. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { customProvider, rerank } from 'ai'
import { FakeRetriever } from '@langchain/core/utils/testing'
import { Document } from '@langchain/core/documents'
import { BaseDocumentCompressor } from '@langchain/core/retrievers/document_compressors'
import { ContextualCompressionRetriever } from '@langchain/classic/retrievers/contextual_compression'
import { BaseRetriever } from '@llamaindex/core/retriever'
import { RetrieverQueryEngine } from '@llamaindex/core/query-engine'
import { MetadataMode, TextNode } from '@llamaindex/core/schema'
import { install, passages, run, tinyPath } from '../../test/common.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
const query = 'play chess against the computer'
let kalm, want, made, KalmCompressor, KalmPostprocessor, rerankingModel
before(async () => {
    rmSync(`${folder}/node_modules/kalm-rerank`, { recursive: true, force: true })
    made = install(folder)
    unlinkSync(`${folder}/${made.filename}`)
    const { Kalm } = await import('kalm-rerank')
    kalm = await Kalm.load(tinyPath, { threads: 1 })
    want = await kalm.rerank(query, passages());
    ({ KalmCompressor } = await import('kalm-rerank/langchain'));
    ({ KalmPostprocessor } = await import('kalm-rerank/llamaindex'));
    ({ rerankingModel } = await import('kalm-rerank/ai-sdk'))
})
after(() => kalm?.free())

describe('LangChain', () => {
    const documents = () => passages().map((pageContent, i) => new Document({ pageContent, id: `id ${i}`, metadata: { source: i } }))
    test('as a compressor', async () => {
        const compressor = new KalmCompressor({ kalm, topN: 3 }), given = documents()
        assert.ok(compressor instanceof BaseDocumentCompressor && BaseDocumentCompressor.isBaseDocumentCompressor(compressor))
        const got = await compressor.compressDocuments(given, query)
        assert.ok(got.every((d) => d instanceof Document))
        assert.deepEqual(got.map((d) => [d.id, d.metadata.source, d.metadata.relevanceScore, d.pageContent]),
            want.slice(0, 3).map((r) => [`id ${r.index}`, r.index, r.score, passages()[r.index]]))
        assert.deepEqual(given, documents(), 'what is given is not changed')
        assert.deepEqual(await compressor.compressDocuments([], query), [])
        const above = await new KalmCompressor({ kalm, minScore: 0.4 }).compressDocuments(given, query)
        assert.equal(above.length, want.filter((r) => r.score >= 0.4).length)
    })
    test('in a ContextualCompressionRetriever', async () => {
        const retriever = new ContextualCompressionRetriever({ baseCompressor: new KalmCompressor({ kalm, topN: 2 }),
            baseRetriever: new FakeRetriever({ output: documents() }) })
        assert.deepEqual((await retriever.invoke(query)).map((d) => d.metadata.source), want.slice(0, 2).map((r) => r.index))
    })
    test('options reach the model; errors come through', async () => {
        const other = await new KalmCompressor({ kalm, instruction: 'Find games.' }).compressDocuments(documents(), query)
        assert.notDeepEqual(other.map((d) => d.metadata.relevanceScore), want.map((r) => r.score))
        await assert.rejects(new KalmCompressor({ kalm, signal: AbortSignal.abort() }).compressDocuments(documents(), query), { name: 'AbortError' })
        assert.throws(() => new KalmCompressor({}), TypeError)
    })
})

describe('LlamaIndex', () => {
    const nodes = () => passages().map((text, i) => ({ node: new TextNode({ text, id_: `id ${i}`, metadata: { title: `number ${i}` } }), score: 0.5 }))
    test('as a node postprocessor', async () => {
        const got = await new KalmPostprocessor({ kalm, topN: 4, metadataMode: MetadataMode.NONE }).postprocessNodes(nodes(), query)
        assert.deepEqual(got.map(({ node, score }) => [node.id_, score]), want.slice(0, 4).map((r) => [`id ${r.index}`, r.score]))
        const parts = [{ type: 'text', text: query }, { type: 'image_url', image_url: { url: 'data:,' } }]
        assert.deepEqual(await new KalmPostprocessor({ kalm, topN: 4, metadataMode: 'NONE' }).postprocessNodes(nodes(), parts), got)
        const withTitles = await new KalmPostprocessor({ kalm }).postprocessNodes(nodes(), query)
        assert.notDeepEqual(withTitles.map(({ score }) => score), want.map((r) => r.score), 'the metadata is read')
        assert.deepEqual(await new KalmPostprocessor({ kalm }).postprocessNodes([]), [])
        await assert.rejects(new KalmPostprocessor({ kalm }).postprocessNodes(nodes()), TypeError)
        assert.throws(() => new KalmPostprocessor({}), TypeError)
    })
    test('in a query engine', async () => {
        class All extends BaseRetriever {
            async _retrieve() { return nodes() }
        }
        const engine = new RetrieverQueryEngine(new All(), {}, [new KalmPostprocessor({ kalm, topN: 2, metadataMode: 'NONE' })])
        assert.deepEqual((await engine.retrieve(query)).map(({ node }) => node.id_), want.slice(0, 2).map((r) => `id ${r.index}`))
    })
})

describe('the AI SDK', () => {
    test('texts', async () => {
        const { ranking, rerankedDocuments, originalDocuments } = await rerank({ model: rerankingModel(kalm), query, documents: passages(), topN: 3 })
        assert.deepEqual(ranking.map((r) => [r.originalIndex, r.score, r.document]), want.slice(0, 3).map((r) => [r.index, r.score, passages()[r.index]]))
        assert.deepEqual(rerankedDocuments, want.slice(0, 3).map((r) => passages()[r.index]))
        assert.equal(originalDocuments.length, passages().length)
    })
    test('objects, and a model by its name', async () => {
        const provider = customProvider({ rerankingModels: { tiny: rerankingModel(kalm, { text: ({ body }) => body }) } })
        const documents = passages().map((body, number) => ({ body, number }))
        const { rerankedDocuments } = await rerank({ model: provider.rerankingModel('tiny'), query, documents })
        assert.deepEqual(rerankedDocuments.map((d) => d.number), want.map((r) => r.index))
        assert.equal((await rerank({ model: rerankingModel(kalm), query, documents })).ranking.length, documents.length)
    })
    test('provider options, margins, cancelling', async () => {
        const model = rerankingModel(kalm)
        const plain = await rerank({ model, query, documents: passages() })
        assert.deepEqual(plain.providerMetadata.kalm.margins, want.map((r) => r.margin))
        const other = await rerank({ model, query, documents: passages(), providerOptions: { kalm: { instruction: 'Find games.' } } })
        assert.notDeepEqual(other.ranking.map((r) => r.score), plain.ranking.map((r) => r.score))
        await assert.rejects(rerank({ model, query, documents: passages(), abortSignal: AbortSignal.abort() }), { name: 'AbortError' })
    })
})

test('types', () => {
    writeFileSync(`${folder}/use.mts`, `
        import { rerank, type RerankingModel } from 'ai'
        import { BaseDocumentCompressor } from '@langchain/core/retrievers/document_compressors'
        import type { BaseNodePostprocessor } from '@llamaindex/core/postprocessor'
        import { Kalm } from 'kalm-rerank'
        import { KalmWorker } from 'kalm-rerank/worker'
        import { KalmCompressor } from 'kalm-rerank/langchain'
        import { KalmPostprocessor } from 'kalm-rerank/llamaindex'
        import { rerankingModel } from 'kalm-rerank/ai-sdk'
        const kalm = await Kalm.load('x'), far = await KalmWorker.load('x')
        export const compressor: BaseDocumentCompressor = new KalmCompressor({ kalm, topN: 3, ratio: 4 })
        export const postprocessor: BaseNodePostprocessor = new KalmPostprocessor({ kalm: far, metadataMode: 'ALL' })
        export const model: RerankingModel = rerankingModel(kalm, { instruction: 'x' })
        export const { ranking } = await rerank({ model, query: 'q', documents: ['a'], topN: 1 })
        // @ts-expect-error there must be a Kalm
        new KalmCompressor({})
    `)
    try {
        run('node', ['node_modules/typescript/bin/tsc', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022',
            '--lib', 'es2022,dom,dom.iterable', 'use.mts'], folder)
    } finally {
        unlinkSync(`${folder}/use.mts`)
    }
})
