-- Attributes whose edits move the classifier's answer in an audit: what it confirmed by edits is among them, and it is found without a
-- bootstrap, so that other audits can ask for it. Over: attributes with five edits or more that count, whose mean change is beyond the
-- margin and its 95 % interval (normal approximation) off 0; of more than two classes the one that it moves most.
-- Columns:
--   effect: mean change of P(target) when the attribute alone is switched on
--   low, high: its 95 % interval
--   n: edits that count
create view reacting as
with measured as (
    select run_id, attribute, target, avg(change) as effect, stddev_samp(change) / sqrt(count(*)) * normal_quantile(.025) as half, count(*) as n
    from edit_effects where counted
    group by run_id, attribute, target
    having count(*) >= 5
)
select run_id, attribute, target, effect, within(effect - half, 1) as low, within(effect + half, 1) as high, n
from measured join (select run_id, margin from runs) using (run_id)
where abs(effect) > margin and abs(effect) > half
qualify row_number() over (partition by run_id, attribute order by abs(effect) desc, target) = 1;
