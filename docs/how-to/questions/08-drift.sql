-- Which attributes drift without any guidance, because of the generator and the oracle alone?
with drift as (
    select avg(abs(columns('^d_'))) from attributes where arm = 'null'
)
select attribute[3:] as attribute, round(drift, 4) as mean_absolute_drift
from (unpivot drift on columns('^d_') into name attribute value drift)
order by mean_absolute_drift desc, attribute;
