"""Methods as they were released: encoders that are told the labels, for the oracle protocol and nothing else."""

PUBLISHED = {  # method -> its module, which has a Config, a Network and an Objective
    "pghmh-published": "model.evaluation.published.pghmh",
    "prompthash-published": "model.evaluation.published.prompthash",
}
