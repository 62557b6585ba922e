"""Methods as they were released: encoders that are told the labels, for the oracle protocol and nothing else."""

PUBLISHED = {  # method -> its module, which has a Config, a Network and an Objective
    "prompthash-published": "model.evaluation.published.prompthash",
}
COMPANY = 128  # items of one joint forward where codes are made: consecutive ones, as released
