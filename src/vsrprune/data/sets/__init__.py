"""Published data sets: where each keeps its clips, one file per set; without torch, so that keys stay cheap."""
