"""haystack.py - a Reranker as a ranker component of Haystack 2:

    from kalm_rerank.haystack import KalmRanker
    pipeline.add_component("ranker", KalmRanker(model="nano.kalm", top_k=5))

The wheel has it as kalm_rerank.haystack. The model is loaded by warm_up, or at the first run; a pipeline that is written to YAML keeps
its path."""

import dataclasses
from typing import Any, Dict, List, Optional

from haystack import Document, component, default_from_dict, default_to_dict


@component
class KalmRanker:
    """Documents come back best first, as copies with the model's score, from 0 to 1."""

    def __init__(self, model: str, top_k: int = 10, score_threshold: Optional[float] = None, meta_fields_to_embed: Optional[List[str]] = None,
                 embedding_separator: str = "\n", instruction: Optional[str] = None, threads: int = 0):
        """model: the path of a .kalm file; meta_fields_to_embed: metadata that the model reads before a document's text."""
        if top_k <= 0:
            raise ValueError("top_k must be > 0, but got %r" % top_k)
        self.model = str(model)
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.instruction = instruction
        self.threads = threads
        self._reranker: Any = None

    def warm_up(self) -> None:
        if self._reranker is None:
            from kalm_rerank import Reranker
            self._reranker = Reranker(self.model, threads=self.threads)

    def to_dict(self) -> Dict[str, Any]:
        return default_to_dict(self, model=self.model, top_k=self.top_k, score_threshold=self.score_threshold,
                               meta_fields_to_embed=self.meta_fields_to_embed, embedding_separator=self.embedding_separator,
                               instruction=self.instruction, threads=self.threads)

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> "KalmRanker":
        return default_from_dict(cls, data)

    @component.output_types(documents=List[Document])
    def run(self, query: str, documents: List[Document], top_k: Optional[int] = None, score_threshold: Optional[float] = None):
        top_k = self.top_k if top_k is None else top_k
        least = self.score_threshold if score_threshold is None else score_threshold
        if top_k <= 0:
            raise ValueError("top_k must be > 0, but got %r" % top_k)
        if not documents:
            return {"documents": []}
        self.warm_up()
        texts = [self.embedding_separator.join([str(one.meta[field]) for field in self.meta_fields_to_embed if one.meta.get(field)]
                                               + [one.content or ""]) for one in documents]
        hits = self._reranker.rank(query, texts, top_k=top_k, instruction=self.instruction, show_progress_bar=False)
        return {"documents": [dataclasses.replace(documents[hit["corpus_id"]], score=float(hit["score"])) for hit in hits
                              if least is None or hit["score"] >= least]}
