-- Where glasses appear or vanish, what else changes with them?
select other.attribute, count(*) as explanations, round(avg(abs(other.switched)), 3) as changes_too
from attribute_changes glasses
join attribute_changes other using (run_id, image_id, method, seed)
where glasses.audit like '%planted' and glasses.attribute = 'glasses' and glasses.switched <> 0 and other.attribute <> 'glasses'
group by other.attribute
having changes_too > 0
order by changes_too desc, other.attribute;
