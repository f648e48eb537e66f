-- The benchmark's marks by kind, method, correlation and number of images; `rho` null: over all correlations of that kind. A row
-- with rho above 0 is a point of the power curve.
-- Over: cells.
-- Columns:
--   cells: audits
--   top1: share of planted cells that rank what was planted first
--   confirmed: mean share of planted attributes confirmed, the power
--   silent: share of cells that confirm nothing but what was planted
--   realised_fdr: mean over cells of the share of claims that are false
--   spearman: rank correlation of estimates with exact effects over all cells and attributes; under half the margin counts as 0
--   sign_agreement: of effects truly beyond the margin, the share estimated with the right sign
--   coverage: share of the intervals that hold the exact effect
create view benchmark as
with grouped as (
    select *, rho as level from cells
    union all
    select *, null from cells
),
shrunk as (
    select
        kind, method, images, level,
        if(abs(estimate) < margin / 2, 0, estimate) as estimate, if(abs(exact) < margin / 2, 0, exact) as exact
    from graded
    join (values (true), (false)) question(pooled) on true
    join lateral (select if(pooled, null, rho) as level) on true
    where estimate is not null
),
ranked as (
    -- The mean rank of equal values.
    select
        kind, method, images, level,
        rank() over (partition by kind, method, images, level order by estimate)
            + (count(*) over (partition by kind, method, images, level, estimate) - 1) / 2 as estimated,
        rank() over (partition by kind, method, images, level order by exact)
            + (count(*) over (partition by kind, method, images, level, exact) - 1) / 2 as true_rank
    from shrunk
),
correlated as (
    select kind, method, images, level, corr(estimated, true_rank) as spearman from ranked group by kind, method, images, level
)
select
    kind, method, images, grouped.level as rho, count(*) as cells,
    avg(top1::int) as top1, avg(confirmed) as confirmed, avg(silent::int) as silent,
    avg(if(claims = 0, 0, false_claims / claims)) as realised_fdr,
    if(isnan(any_value(spearman)), null, any_value(spearman)) as spearman,
    avg(sign_agreement) as sign_agreement, avg(coverage) as coverage
from grouped
left join correlated c using (kind, method, images)
where c.level is not distinct from grouped.level
group by kind, method, images, grouped.level;
