"""A frame's intermediates on one page: `collect` gathers them from the pipeline's functions, `page` lays them out."""
