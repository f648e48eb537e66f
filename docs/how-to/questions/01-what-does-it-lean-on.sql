-- Which attributes does the classifier lean on?
select attribute, round(shift, 3) as shift, round(edit_effect, 3) as edit_effect, round(q_value, 4) as q_value, verdict
from verdicts
where audit like '%planted'
order by rank;
