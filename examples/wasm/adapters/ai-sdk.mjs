/* ai-sdk.mjs - a Kalm as a reranking model of the AI SDK (package `ai`, 6 or 7, whose interface V3 this is):

     import { rerank } from 'ai'
     import { Kalm } from 'kalm-rerank'
     import { rerankingModel } from 'kalm-rerank/ai-sdk'
     const model = rerankingModel(await Kalm.load('nano.kalm'))
     const { ranking } = await rerank({ model, query, documents, topN: 5 })

   What one call alone wants goes into providerOptions.kalm: instruction, system, ratio. */

/* options: what Kalm.rerank takes, for every call; modelId; text: the words of a document that is an object, default its JSON */
export function rerankingModel(kalm, { modelId = kalm.info.name, text = JSON.stringify, ...options } = {}) {
    return {
        specificationVersion: 'v3',
        provider: 'kalm-rerank',
        modelId,
        async doRerank({ documents: { type, values }, query, topN, abortSignal, providerOptions, headers }) {
            const documents = type === 'text' ? values : values.map((value) => text(value))
            const ranked = await kalm.rerank(query, documents, { ...options, ...providerOptions?.kalm, topK: topN, signal: abortSignal })
            return {
                ranking: ranked.map(({ index, score }) => ({ index, relevanceScore: score })),
                providerMetadata: { kalm: { margins: ranked.map(({ margin }) => margin), cut: ranked.map(({ cut }) => cut) } },
                warnings: headers && Object.keys(headers).length
                    ? [{ type: 'unsupported', feature: 'headers', details: 'nothing is sent anywhere' }] : [],
                response: { timestamp: new Date(), modelId }
            }
        }
    }
}

export default rerankingModel
