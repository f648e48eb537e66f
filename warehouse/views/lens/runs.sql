-- Every audit once: which classifier, when, on what, and how far it got.
-- Over: all runs; the last event of each.
-- Columns:
--   audit: the audit's name in its configuration; the nights of one audit share it
--   model: the audited classifier: its weights, module, function or address, as the configuration names it
create view lens.runs as
select
    run_id, name as audit, status, reason, started, finished,
    if(
        config ->> '$.classifier.url' is null, nullif(concat_ws(' with ', config ->> '$.classifier.module', config ->> '$.classifier.weights'), ''),
        concat_ws(' at ', config ->> '$.classifier.model', config ->> '$.classifier.url')
    ) as model,
    method, classes, attempted, explained, flipped, rejected, sample, margin, target_attribute, seeds, hardware, code_version,
    warnings, words, config_hash, config, fingerprints, packages, name
from main.runs;
