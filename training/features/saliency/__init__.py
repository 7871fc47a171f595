"""How salient each superpixel is, seen globally and through two croppings: geodesic saliency, or DRFI."""
