-- COUT, counterfactual transition, [-1, 1]: how soon the change, pasted in most changed pixels first, moves the classifier from
-- the source class to the target. Higher is better. reference: the same as the published script sums it, up to 2 % larger.
-- identical: counterfactuals that equal their image; they have no COUT and do not count in n.
-- Over: guided explanations, flipped or not, of images that were classified correctly; an image without a label counts.
-- Columns:
--   value: mean, -1 to 1
--   n: explanations that have a COUT
--   reference: mean as the published script sums it
--   identical: counterfactuals that equal their image
create view cout as
select
    run_id, method, round(avg(m.value), 9) as value, count(m.value) as n, round(avg(r.value), 9) as reference,
    count(d.value) - count(m.value) as identical
from outcomes
join (from measurements where measure = 'l1_sum') d using (run_id, image_id, method, seed)
left join (from measurements where measure = 'cout') m using (run_id, image_id, method, seed)
left join (from measurements where measure = 'cout_reference') r using (run_id, image_id, method, seed)
where correct is not false
group by run_id, method
having count(m.value) > 0;
