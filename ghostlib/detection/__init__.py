"""Table 10: detectors on the zoo's backbones, trained by MMDetection at a profile's scale."""
