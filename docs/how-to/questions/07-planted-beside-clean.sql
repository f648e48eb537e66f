-- How do two classifiers compare, attribute by attribute?
select
    attribute,
    round(max(effect) filter (where name like '%planted'), 3) as planted,
    round(max(effect) filter (where name like '%clean'), 3) as clean
from ranked_attributes join audits using (run_id)
group by attribute
order by abs(planted) desc, attribute;
