"""langchain.py - a Reranker as a document compressor of LangChain, for ContextualCompressionRetriever:

    from kalm_rerank import Reranker
    from kalm_rerank.langchain import KalmCompressor
    compressor = KalmCompressor(reranker=Reranker("nano.kalm"), top_n=5)
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=...)

The wheel has it as kalm_rerank.langchain. The asynchronous method is LangChain's own, which calls this one on a thread."""

from typing import Any, Optional, Sequence

from langchain_core.documents import BaseDocumentCompressor, Document


class KalmCompressor(BaseDocumentCompressor):
    """Documents come back best first, as copies with metadata["relevance_score"], the score from 0 to 1."""

    reranker: Any
    """A kalm_rerank.Reranker."""
    top_n: Optional[int] = None
    """How many documents to keep; None: all."""
    min_score: float = 0.0
    """Documents whose score is below are left out."""
    instruction: Optional[str] = None
    """What makes a document a good one; None: the reranker's own sentence."""

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> Sequence[Document]:
        hits = self.reranker.rank(query, [document.page_content for document in documents], top_k=self.top_n,
                                  instruction=self.instruction, show_progress_bar=False)
        kept = []
        for hit in hits:
            if hit["score"] < self.min_score:
                continue
            document = documents[hit["corpus_id"]]
            metadata = dict(document.metadata, relevance_score=float(hit["score"]))
            kept.append(Document(page_content=document.page_content, metadata=metadata, id=getattr(document, "id", None)))
        return kept
