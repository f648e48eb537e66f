-- Which attributes flip most when the answer goes from smiling to not smiling?
select
    attribute,
    count_if(switched > 0) as appeared,
    count_if(switched < 0) as vanished,
    round(avg(abs(switched)), 3) as share_of_explanations
from attribute_changes
where audit like '%planted' and flipped and predicted = 'smiling'
group by attribute
having appeared + vanished > 0
order by share_of_explanations desc, attribute;
