-- Which attributes flip most when the answer goes from smiling to not smiling?
with changed as (
    select columns('^c_') as "\0"
    from attributes
    join explanations using (run_id, image_id, method, arm, seed)
    join audits using (run_id)
    where name like '%planted' and arm = 'guided' and flipped and source = 'smiling'
)
select
    attribute[3:] as attribute,
    count_if(change > 0) as appeared,
    count_if(change < 0) as vanished,
    round(avg(abs(change)), 3) as share_of_explanations
from (unpivot changed on columns('^c_') into name attribute value change)
group by attribute
having appeared + vanished > 0
order by share_of_explanations desc, attribute;
