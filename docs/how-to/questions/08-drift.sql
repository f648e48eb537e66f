-- Which attributes drift without any guidance, because of the generator and the oracle alone?
with drift as (
    select avg(abs(columns('^change_(.*)$'))) as "\1" from attribute_scores where arm = 'null'
)
select attribute, round(drift, 4) as mean_absolute_drift
from (unpivot drift on * into name attribute value drift)
order by mean_absolute_drift desc, attribute;
