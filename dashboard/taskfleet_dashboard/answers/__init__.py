"""What the dashboard's API answers and takes: the models of its OpenAPI document, one module for each subject."""
