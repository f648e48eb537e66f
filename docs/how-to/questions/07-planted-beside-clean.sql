-- How do two classifiers compare, attribute by attribute?
select
    attribute,
    round(max(shift) filter (where audit like '%planted'), 3) as planted,
    round(max(shift) filter (where audit like '%clean'), 3) as clean
from verdicts
group by attribute
order by abs(planted) desc, attribute;
