"""The names of the store's columns, written once.

The orchestrator's Parquet schema uses these names, and the functions of `analysis` take them as
defaults, so that a table from elsewhere can be analyzed by passing its own names.
"""

CELL_ID = "cell_id"
WORKLOAD = "workload"
WORKLOAD_VERSION = "workload_version"
DATASET_FRACTION = "dataset_fraction"
TRAIN_EXAMPLES = "train_examples"
MODEL_SIZE = "model_size"
PARAMETER_COUNT = "parameter_count"
BATCH_SIZE = "batch_size"
LEARNING_RATE = "learning_rate"
MOMENTUM = "momentum"
WEIGHT_DECAY = "weight_decay"
SEED = "seed"
BUDGET = "budget"
OPTIMIZER = "optimizer"
LEARNING_RATE_SCHEDULE = "learning_rate_schedule"
BATCH_SIZE_SCHEDULE = "batch_size_schedule"
EVALUATION_SCHEDULE = "evaluation_schedule"
WORKLOAD_AXES = "workload_axes"
CHANCE_ERROR = "chance_error"
VALIDATION_EXAMPLES = "validation_examples"
TEST_EXAMPLES = "test_examples"

STATUS = "status"
STEPS = "steps"
EPOCHS = "epochs"
EXAMPLES_SEEN = "examples_seen"
TRAINING_FLOPS = "training_flops"
WALL_SECONDS = "wall_seconds"
PACK_WALL_SECONDS = "pack_wall_seconds"

TRAIN_LOSS = "train_loss"
TRAIN_ERROR = "train_error"
VALIDATION_LOSS = "validation_loss"
VALIDATION_ERROR = "validation_error"
TEST_LOSS = "test_loss"
TEST_ERROR = "test_error"
BEST_VALIDATION_LOSS = "best_validation_loss"
BEST_VALIDATION_ERROR = "best_validation_error"
BEST_VALIDATION_STEP = "best_validation_step"
GENERALIZATION_GAP = "generalization_gap"
VALIDATION_EVALUATIONS = "validation_evaluations"
WORKLOAD_METRICS = "workload_metrics"

ERROR_RATES = (VALIDATION_ERROR, BEST_VALIDATION_ERROR, TEST_ERROR, TRAIN_ERROR)
"""Shares of wrong examples, to which `chance_error` refers."""

PACK_ID = "pack_id"
PACKED_CELLS = "packed_cells"
ARITHMETIC = "arithmetic"
DEVICE_NAME = "device_name"
HOST = "host"
STARTED_AT = "started_at"
CODE_VERSION = "code_version"
WORKLOAD_SOURCE = "workload_source"
TORCH_VERSION = "torch_version"
RAY_VERSION = "ray_version"

STEP = "step"
EPOCH = "epoch"
NOISE_SCALE = "noise_scale"

ATTEMPT = "attempt"
ERROR_TYPE = "error_type"
ERROR_MESSAGE = "error_message"
ERROR_TRACEBACK = "error_traceback"
FAILED_AT = "failed_at"

STUDY = "study"
GRID = "grid"

ATTEMPTS = "attempts"
ADDED_ON_LOADING = (STUDY, GRID, ERROR_MESSAGE, ATTEMPTS)
"""What frames of cells have beside the columns of `cells`, so that no axis may be named like it."""
