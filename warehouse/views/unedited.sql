-- Attributes whose edits move the answer in one audit, and of which another has no edit that counts: whether the reliance on them grew
-- or fell cannot be said, and leaving them out would look as if nothing had changed. An audit that knows its base beforehand (the
-- setting `base`, or an earlier audit of the same name) edits them. Ask with `where run_id = ... and base_id = ...`.
-- Over: pairs of audits; attributes of `reacting` in the base.
-- Columns:
--   base_id: the audit it is compared with
--   base_effect: mean change of P(target) there, when the attribute alone is switched on
--   base_low, base_high: its 95 % interval
--   tried: edits of it in run_id, none of which counts
--   why: in words
create view unedited as
with tries as (
    select run_id, attribute, count(*) as tried, count_if(counted) as counted from effects group by run_id, attribute
)
select
    r.run_id, b.run_id as base_id, b.attribute, b.effect as base_effect, b.low as base_low, b.high as base_high, coalesce(tried, 0) as tried,
    if(tried > 0, 'no edit counts in ', 'not edited in ') || r.run_id as why
from reacting b
join (select run_id from runs) r on r.run_id <> b.run_id
left join tries t on (t.run_id, t.attribute) = (r.run_id, b.attribute)
where coalesce(counted, 0) = 0;
