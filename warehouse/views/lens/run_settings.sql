-- What each audit ran with, one row a setting: its configuration, the fingerprints of its networks and data, its packages' versions.
-- `setting` is the path that the YAML has, such as `interventions.images`. A setting that is null has no row.
-- Over: all runs.
-- Columns:
--   audit: the audit's name in its configuration
--   kind: config, fingerprint or package
--   setting: its path in the YAML; what was fingerprinted; the package
--   value: as text
create view lens.run_settings as
with documents as (
    select run_id, name as audit, 'config' as kind, config as document from main.runs
    union all
    select run_id, name, 'fingerprint', fingerprints from main.runs
    union all
    select run_id, name, 'package', packages from main.runs
)
select run_id, audit, kind, replace(leaf.fullkey[3:], '"', '') as setting, leaf.atom ->> '$' as value
from documents, lateral (select fullkey, atom from json_tree(documents.document)) leaf
where leaf.atom is not null;
