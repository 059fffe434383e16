"""Sequence models from RNN to ViT for transformers. Importing this package plugs them into the Auto classes."""

from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig, Seq2SeqConfig
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.image_processing_vit import SeqViTImageProcessor
from hf_seqmodels.models.modeling_bert import SeqBertModel
from hf_seqmodels.models.modeling_bert_finetuning import (
    SeqBertForMultipleChoice,
    SeqBertForQuestionAnswering,
    SeqBertForSequenceClassification,
    SeqBertForTokenClassification,
)
from hf_seqmodels.models.modeling_bert_pretraining import (
    SeqBertForMaskedLM,
    SeqBertForNextSentencePrediction,
    SeqBertForPreTraining,
)
from hf_seqmodels.models.modeling_rnn import GRUModel, LSTMModel, RNNModel
from hf_seqmodels.models.modeling_rnn_finetuning import (
    GRUForSequenceClassification,
    GRUForTokenClassification,
    LSTMForSequenceClassification,
    LSTMForTokenClassification,
    RNNForSequenceClassification,
    RNNForTokenClassification,
)
from hf_seqmodels.models.modeling_rnn_lm import GRUForCausalLM, LSTMForCausalLM, RNNForCausalLM
from hf_seqmodels.models.modeling_seq2seq import (
    AttentionSeq2SeqForConditionalGeneration,
    AttentionSeq2SeqModel,
    Seq2SeqForConditionalGeneration,
    Seq2SeqModel,
)
from hf_seqmodels.models.modeling_transformer import VanillaTransformerModel
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration
from hf_seqmodels.models.modeling_vit import SeqViTModel
from hf_seqmodels.models.modeling_vit_classification import SeqViTBackbone, SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.pipelines import register as register_pipelines
from hf_seqmodels.registry import register

__version__ = "0.1.0"

register()
register_pipelines()

__all__ = [
    "AttentionSeq2SeqConfig",
    "AttentionSeq2SeqForConditionalGeneration",
    "AttentionSeq2SeqModel",
    "GRUConfig",
    "GRUForCausalLM",
    "GRUForSequenceClassification",
    "GRUForTokenClassification",
    "GRUModel",
    "LSTMConfig",
    "LSTMForCausalLM",
    "LSTMForSequenceClassification",
    "LSTMForTokenClassification",
    "LSTMModel",
    "RNNConfig",
    "RNNForCausalLM",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RecurrentCache",
    "Seq2SeqConfig",
    "Seq2SeqForConditionalGeneration",
    "Seq2SeqModel",
    "SeqBertConfig",
    "SeqBertForMaskedLM",
    "SeqBertForMultipleChoice",
    "SeqBertForNextSentencePrediction",
    "SeqBertForPreTraining",
    "SeqBertForQuestionAnswering",
    "SeqBertForSequenceClassification",
    "SeqBertForTokenClassification",
    "SeqBertModel",
    "SeqViTBackbone",
    "SeqViTConfig",
    "SeqViTForImageClassification",
    "SeqViTForMaskedImageModeling",
    "SeqViTForMaskedPatchPrediction",
    "SeqViTForPreTraining",
    "SeqViTImageProcessor",
    "SeqViTModel",
    "VanillaTransformerConfig",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
]
