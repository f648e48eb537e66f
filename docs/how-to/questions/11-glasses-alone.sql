-- Where glasses appear or vanish, what else changes with them?
with together as (
    select columns('^c_') as "\0"
    from attributes join audits using (run_id)
    where name like '%planted' and arm = 'guided' and c_glasses <> 0
)
select
    attribute[3:] as attribute,
    count(*) as explanations,
    round(avg(abs(change)), 3) as changes_too
from (unpivot together on columns('^c_') into name attribute value change)
where attribute <> 'c_glasses'
group by attribute
having changes_too > 0
order by changes_too desc, attribute;
