"""Results of dense tasks drawn over their pictures: arrays in, arrays out."""

from midsight.tasks.draw.boxes import draw_detections
from midsight.tasks.draw.colours import class_colours, depth_colours
from midsight.tasks.draw.maps import depth_range, draw_classes, draw_depth

__all__ = ["class_colours", "depth_colours", "depth_range", "draw_classes", "draw_depth", "draw_detections"]
