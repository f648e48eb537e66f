-- What an audit looks at and what it leaves out: one row a part of it, each with what the part adds and the line of the
-- configuration that adds it. Over: all runs.
-- Columns:
--   place: order of the parts
--   layer: images, labels, attributes, counterfactuals, judge or masks
--   there: the audit has this part; null where its configuration does not say
--   adds: what the part tells, or would tell
--   line: the setting that adds it; capitals stand for names of one's own
create macro layers_of(config) as (  -- the parts of an audit with these settings (JSON), as a list
    select [
        {
            'place': 0, 'layer': 'images', 'there': true,
            'adds': 'what the classifier says of each image, and which measured properties and which places of it move the answer',
            'line': 'data: {images: FOLDER}'
        },
        {
            'place': 1, 'layer': 'labels', 'there': json_type(settings, '$.data.label_column') <> 'NULL',
            'adds': 'how often it is right, in which groups of images less often, and whether what decides goes beyond the label',
            'line': 'data: {…, ' || if(tabled, '', 'table: TABLE.csv, ') || 'label_column: COLUMN}'
        },
        {
            'place': 2, 'layer': 'attributes', 'there': json_type(settings, '$.oracle') <> 'NULL',
            'adds': 'names for what decides, and how much of the answers they explain: only that can clear a classifier',
            'line': if(tabled, 'oracle: auto', 'oracle: {words: faces, model: FOLDER}')
        },
        {
            'place': 3, 'layer': 'counterfactuals', 'there': json_type(settings, '$.prior') <> 'NULL',
            'adds': 'images changed until the answer changes, and edits that test one attribute alone; a diffusion model is trained first, once, in minutes to hours',
            'line': 'prior: auto'
        },
        {
            'place': 4, 'layer': 'judge', 'there': json_type(settings, '$.judge') <> 'NULL',
            'adds': 'whether another classifier sees the other class in a counterfactual, too, or only this one was fooled',
            'line': if(labelled, 'judge: auto', 'judge: {weights: FILE}')
        },
        {
            'place': 5, 'layer': 'masks', 'there': json_type(settings, '$.masks') <> 'NULL',
            'adds': 'which part decides, such as the subject or its background',
            'line': 'masks: FOLDER'
        }
    ]
    from (
        select
            config as settings, coalesce(json_type(config, '$.data.table'), 'NULL') <> 'NULL' as tabled,
            coalesce(json_type(config, '$.data.label_column'), 'NULL') <> 'NULL' as labelled
    )
);
create view layers as
select run_id, unnest(layers_of(config), recursive := true)
from runs;
