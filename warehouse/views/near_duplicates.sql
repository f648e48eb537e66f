-- Pairs of images that are nearly the same: saved again, resized, a pixel cropped, but also two frames of one scene. Each image
-- is a point of up to eleven measured properties that such copying leaves alone (brightness, contrast, colour, the side of the light,
-- where the subject is), each in units of the run's own robust standard deviation (1.4826 MAD). A pair is near when the root mean
-- square of the differences is at most 0.1: two images drawn at random lie about 1.3 apart. Mirrored or strongly cropped copies are
-- not found. Files of the same bytes are not here: only the first of them is audited, `rejected` has the others.
-- Over: images with measured properties, of runs in which six of these properties or more vary.
-- Columns:
--   image_id, path, label, split: the image that comes first by its path
--   other_id, other_path, other_label, other_split: the other one
--   distance: root mean square difference of the properties, robust standard deviations of the run
--   other_labels: the two have different labels; null where one has none
--   across_splits: the two are in different splits, such as train and test; null where one is in none
create macro near_distance() as 0.1;  -- root mean square difference of the properties up to which two images are near duplicates
create view near_duplicates as
with measured as (
    select run_id, image_id, name[3:] as property, value
    from (unpivot (select run_id, image_id, columns('^m_') from properties) on columns('^m_') into name name value value)
),
steady as (
    select *, list_position(
        ['brightness', 'light_x', 'subject_y', 'subject_x', 'light_y', 'contrast', 'warmth', 'greenness', 'saturation', 'subject_tilt', 'asymmetry'],
        property
    ) as place
    from measured
),
spreads as (
    select run_id, place, 1.4826 * mad(value) as spread from steady where place is not null group by run_id, place
),
points as (
    select run_id, image_id, list(value / spread order by place) as point
    from steady join spreads using (run_id, place)
    where spread > 1e-9
    group by run_id, image_id
    having len(point) >= 6
),
cells as (  -- no pair that is near lies further apart than one cell along any property: only neighbours are compared
    select
        *, near_distance() * sqrt(len(point)) as side,
        list_transform(point[1:4], coordinate -> floor(coordinate / side)::int) as cell
    from points
),
neighbours as (
    select run_id, image_id, point, [cell[1] + w, cell[2] + x, cell[3] + y, cell[4] + z] as cell
    from cells
        cross join (select unnest([-1, 0, 1]) as w) cross join (select unnest([-1, 0, 1]) as x)
        cross join (select unnest([-1, 0, 1]) as y) cross join (select unnest([-1, 0, 1]) as z)
),
near as (
    select a.run_id, a.image_id as a_id, b.image_id as b_id, list_distance(a.point, b.point) / sqrt(len(a.point)) as distance
    from neighbours a join cells b using (run_id, cell)
    where a.image_id < b.image_id and len(a.point) = len(b.point)
        and list_distance(a.point, b.point) <= near_distance() * sqrt(len(a.point))
),
described as (
    select run_id, image_id, path, label, split from images
)
select
    near.run_id,
    if(a.path <= b.path, a.image_id, b.image_id) as image_id, least(a.path, b.path) as path,
    if(a.path <= b.path, a.label, b.label) as label, if(a.path <= b.path, a.split, b.split) as split,
    if(a.path <= b.path, b.image_id, a.image_id) as other_id, greatest(a.path, b.path) as other_path,
    if(a.path <= b.path, b.label, a.label) as other_label, if(a.path <= b.path, b.split, a.split) as other_split,
    distance, a.label <> b.label as other_labels, a.split <> b.split as across_splits
from near
join described a on (a.run_id, a.image_id) = (near.run_id, near.a_id)
join described b on (b.run_id, b.image_id) = (near.run_id, near.b_id);
