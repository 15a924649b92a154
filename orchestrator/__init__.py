"""From a study file to cells, packs, Ray Tune trials and Parquet."""
