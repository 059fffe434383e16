"""One table of everything that `import hf_seqmodels` plugs into transformers' Auto classes."""

from dataclasses import dataclass, field
from typing import Any

import transformers
from transformers import AutoConfig, AutoImageProcessor, BaseImageProcessor, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

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
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling
from hf_seqmodels.models.saving import CarriesCode
from hf_seqmodels.remote_code import write_code


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Args:
        config: its configuration class, which carries the model_type.
        models: name of an Auto class -> the model class that it gives.
        image_processor: what `AutoImageProcessor` gives for it.
    """

    config: type[PreTrainedConfig]
    models: dict[str, type[PreTrainedModel]] = field(default_factory=dict)
    image_processor: type[BaseImageProcessor] | None = None


ARCHITECTURES = (
    Architecture(
        config=RNNConfig,
        models={
            "AutoModel": RNNModel,
            "AutoModelForCausalLM": RNNForCausalLM,
            "AutoModelForSequenceClassification": RNNForSequenceClassification,
            "AutoModelForTokenClassification": RNNForTokenClassification,
        },
    ),
    Architecture(
        config=LSTMConfig,
        models={
            "AutoModel": LSTMModel,
            "AutoModelForCausalLM": LSTMForCausalLM,
            "AutoModelForSequenceClassification": LSTMForSequenceClassification,
            "AutoModelForTokenClassification": LSTMForTokenClassification,
        },
    ),
    Architecture(
        config=GRUConfig,
        models={
            "AutoModel": GRUModel,
            "AutoModelForCausalLM": GRUForCausalLM,
            "AutoModelForSequenceClassification": GRUForSequenceClassification,
            "AutoModelForTokenClassification": GRUForTokenClassification,
        },
    ),
    Architecture(
        config=Seq2SeqConfig,
        models={
            "AutoModel": Seq2SeqModel,
            "AutoModelForSeq2SeqLM": Seq2SeqForConditionalGeneration,
        },
    ),
    Architecture(
        config=AttentionSeq2SeqConfig,
        models={
            "AutoModel": AttentionSeq2SeqModel,
            "AutoModelForSeq2SeqLM": AttentionSeq2SeqForConditionalGeneration,
        },
    ),
    Architecture(
        config=VanillaTransformerConfig,
        models={
            "AutoModel": VanillaTransformerModel,
            "AutoModelForSeq2SeqLM": VanillaTransformerForConditionalGeneration,
        },
    ),
    Architecture(
        config=SeqBertConfig,
        models={
            "AutoModel": SeqBertModel,
            "AutoModelForPreTraining": SeqBertForPreTraining,
            "AutoModelForMaskedLM": SeqBertForMaskedLM,
            "AutoModelForNextSentencePrediction": SeqBertForNextSentencePrediction,
            "AutoModelForSequenceClassification": SeqBertForSequenceClassification,
            "AutoModelForTokenClassification": SeqBertForTokenClassification,
            "AutoModelForQuestionAnswering": SeqBertForQuestionAnswering,
            "AutoModelForMultipleChoice": SeqBertForMultipleChoice,
        },
    ),
    Architecture(
        config=SeqViTConfig,
        models={
            "AutoModel": SeqViTModel,
            "AutoModelForPreTraining": SeqViTForPreTraining,
            "AutoModelForImageClassification": SeqViTForImageClassification,
            "AutoModelForMaskedImageModeling": SeqViTForMaskedImageModeling,
            "AutoBackbone": SeqViTBackbone,
        },
        image_processor=SeqViTImageProcessor,
    ),
)


def register() -> None:
    """Registers every architecture with transformers, and what code its checkpoints carry. Harmless when repeated."""
    CarriesCode.write_code = write_code
    for architecture in ARCHITECTURES:
        AutoConfig.register(architecture.config.model_type, architecture.config, exist_ok=True)
        for auto_class, model_class in architecture.models.items():
            auto: Any = getattr(transformers, auto_class)
            auto.register(architecture.config, model_class, exist_ok=True)
            model_class.register_for_auto_class(auto_class)
            if auto_class == "AutoModelForCausalLM":
                # Trainer shifts labels for label smoothing only if it finds the class's name here.
                MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[architecture.config.model_type] = model_class.__name__
        if (processor := architecture.image_processor) is not None:
            processor.register_for_auto_class()
            # Ours needs no torchvision, so it serves where that backend is asked for, too.
            AutoImageProcessor.register(
                architecture.config,
                image_processor_classes={"pil": processor, "torchvision": processor},
                exist_ok=True,
            )


__all__ = ["ARCHITECTURES", "Architecture", "register"]
