"""What runners do on a GPU only: adapters merged where a graph reads, and factors that stay where one reads them."""
