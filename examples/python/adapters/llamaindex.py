"""llamaindex.py - a Reranker as a node postprocessor of LlamaIndex:

    from kalm_rerank import Reranker
    from kalm_rerank.llamaindex import KalmPostprocessor
    engine = index.as_query_engine(node_postprocessors=[KalmPostprocessor(reranker=Reranker("nano.kalm"), top_n=5)])

The wheel has it as kalm_rerank.llamaindex."""

from typing import Any, List, Optional

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle


class KalmPostprocessor(BaseNodePostprocessor):
    """Nodes come back best first, with the model's score, from 0 to 1, in place of the retriever's."""

    reranker: Any
    """A kalm_rerank.Reranker."""
    top_n: Optional[int] = None
    """How many nodes to keep; None: all."""
    instruction: Optional[str] = None
    """What makes a passage a good one; None: the reranker's own sentence."""

    @classmethod
    def class_name(cls) -> str:
        return "KalmPostprocessor"

    def _postprocess_nodes(self, nodes: List[NodeWithScore], query_bundle: Optional[QueryBundle] = None) -> List[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("nodes are ranked by a query, and there is none")
        if not nodes:
            return []
        texts = [one.node.get_content(metadata_mode=MetadataMode.EMBED) for one in nodes]
        hits = self.reranker.rank(query_bundle.query_str, texts, top_k=self.top_n, instruction=self.instruction,
                                  show_progress_bar=False)
        return [NodeWithScore(node=nodes[hit["corpus_id"]].node, score=float(hit["score"])) for hit in hits]
